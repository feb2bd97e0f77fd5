"""The page of a comparison: what `compare.json` says, for people, in one HTML file that opens anywhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from thalweg.errors import counted
from thalweg.report.comparison.curves import curves_panel
from thalweg.report.comparison.entries import Look, Score, budget_of, entries, looks, score_of, text, values
from thalweg.report.comparison.profiles import profiles_panel
from thalweg.report.comparison.tables import equal_panel, front_runner, pairs_panel, rows_panel, tuned_panel
from thalweg.report.comparison.targets import targets_panel
from thalweg.report.comparison.trials import rates_panel, tunability_panel
from thalweg.report.document import render_page
from thalweg.report.panels import Panel
from thalweg.report.text import clip, format_value, number
from thalweg.version import __version__

MAX_NAMES = 4  # in the heading; more are counted
LONGEST_NAME = 32


@final
@dataclass(frozen=True)
class DataSection:
    """What the page shows of one data set."""

    name: str
    failed: str
    facts: list[tuple[str, str]]
    runs: list[Panel]
    tuning: list[Panel]
    equal: list[Panel]

    @property
    def panels(self) -> list[Panel]:
        """All of them, as they come on the page."""
        return [*self.runs, *self.tuning, *self.equal]


def render(comparison: Mapping[str, Any]) -> str:
    """Return the page of a comparison as the text of an HTML file.

    Everything is inside, and nothing is asked of a network. What is missing, not a number or endless is drawn as what
    it is: a run that diverged, a target that was not reached. All text, whatever is in it, is shown as text.

    Args:
        comparison: what `compare.json` says.

    Example:
        >>> page = render({"version": 1, "data": [], "profiles": None, "rows": [], "sentence": "Nothing has run."})
        >>> "Nothing has run." in page
        True
    """
    found, front = looks(comparison), front_runner(comparison)
    overview = [*rows_panel(comparison, found), *profiles_panel(comparison, found)]
    sections = [_section(data, found, front) for data in entries(comparison, "data")]
    return render_page(
        "comparison.html",
        [*overview, *(panel for section in sections for panel in section.panels)],
        version=__version__,
        created=text(comparison, "created"),
        title=_title(comparison, found),
        verdict=text(comparison, "sentence"),
        lead=_lead(comparison),
        overview=overview,
        sections=sections,
        notes=_notes(comparison),
    )


def _section(data: Mapping[str, Any], found: Mapping[str, Look], front: str) -> DataSection:
    """Return what the page shows of one data set."""
    score = score_of(data)
    return DataSection(
        text(data, "name", "data"),
        text(data, "failed"),
        [] if text(data, "failed") else _facts(data, score),
        [
            *curves_panel(data, found, score),
            *targets_panel(data, found, score),
            *pairs_panel(data, found, score, front),
        ],
        [
            *rates_panel(data, found, score),
            *tunability_panel(data, found, score),
            *tuned_panel(data, found, score),
        ],
        equal_panel(data),
    )


def _facts(data: Mapping[str, Any], score: Score) -> list[tuple[str, str]]:
    """Return what was asked of a data set, as pairs of a label and a value."""
    entrants = entries(data, "entrants")
    target = number(data.get("target"))
    seconds = [number(entrant.get("seconds_tuning")) or 0.0 for entrant in entrants]
    facts = [
        ("Data", text(data, "described", text(data, "name"))),
        ("Task and model", ", ".join(filter(None, (text(data, "task"), text(data, "model"))))),
        ("Compared", text(data, "vary", "optimizer").replace("_", " ")),
        ("Scored by", score.name),
        ("Each run lasts", budget_of(data)),
        ("Target", "none" if target is None else format_value(float(f"{target:.4g}"))),
        ("Trials of each", _counts([len(entries(entrant, "trials")) for entrant in entrants])),
        ("Runs of each", _counts([len(entries(entrant, "seeds")) for entrant in entrants])),
        ("All tuning together", f"{format_value(float(f'{sum(seconds):.3g}'))} s"),
    ]
    return [(label, value) for label, value in facts if value]


def _counts(counts: list[int]) -> str:
    """Return how many each had: one number, or the smallest and the largest."""
    if not counts:
        return ""
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def _title(comparison: Mapping[str, Any], found: Mapping[str, Look]) -> str:
    """Return the heading: who is compared, on what."""
    sets = [text(data, "name", "data") for data in entries(comparison, "data")]
    labels = [clip(look.label, LONGEST_NAME) for look in found.values()]
    varied = {text(data, "vary") for data in entries(comparison, "data")} - {""}
    noun = varied.pop().replace("_", " ") if len(varied) == 1 else "entrant"
    who = ", ".join(labels) if len(labels) <= MAX_NAMES else counted(len(labels), noun)
    where = ", ".join(clip(name, LONGEST_NAME) for name in sets) if len(sets) <= MAX_NAMES else f"{len(sets)} data sets"
    return " on ".join(filter(None, (who, where))) or "Comparison"


def _lead(comparison: Mapping[str, Any]) -> str:
    """Return what was done, for a reader who did not do it."""
    sets = [data for data in entries(comparison, "data") if entries(data, "entrants")]
    if not sets:
        return ""
    entrants = [entrant for data in sets for entrant in entries(data, "entrants")]
    trials = _counts(sorted({len(entries(entrant, "trials")) for entrant in entrants} - {0}))
    seeds = _counts(sorted({len(entries(entrant, "seeds")) for entrant in entrants} - {0}))
    budgets = list(dict.fromkeys(filter(None, map(budget_of, sets))))
    of = f" of {budgets[0]}" if len(budgets) == 1 else ""
    words = "Same data, model and starts for all"
    if trials:
        words += f"; each first tuned in {trials} trial{'' if trials == '1' else 's'}{of}"
    if seeds:
        runs = f"compared over {seeds} run{'' if seeds == '1' else 's'}{of}"
        words += f"; then {runs} from other starts" if trials else f"; {runs} from different starts"
    return f"{words}."


def _notes(comparison: Mapping[str, Any]) -> list[str]:
    """Return what failed, and what was noticed; the failures first."""
    sets = entries(comparison, "data")
    prefix = {id(data): f"{text(data, 'name', 'data')}: " if len(sets) > 1 else "" for data in sets}
    failed = [
        f"{text(data, 'name', 'data')} failed, and is left out of everything else: {text(data, 'failed')}"
        for data in sets
        if text(data, "failed")
    ]
    failed += [
        f"{prefix[id(data)]}{text(entrant, 'name')} failed: {text(entrant, 'failed')}"
        for data in sets
        for entrant in entries(data, "entrants")
        if text(entrant, "failed")
    ]
    noted = [f"{prefix[id(data)]}{note}" for data in sets for note in values(data, "notes")]
    return [*failed, *noted]
