"""`thalweg data`, `verify` and `check`: what is in a file, whether a run's folder is whole, whether a proof holds."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from thalweg import names
from thalweg.certificates.checker import check
from thalweg.cli.output import Terminal, cell, print_json, print_lines
from thalweg.data.columns import problems
from thalweg.data.columns.choice import Choice, Kind, TaskColumns
from thalweg.data.columns.reading import read_as
from thalweg.data.files.base import AbstractSource
from thalweg.data.inspection.inspection import MIN_ROWS_OF_A_LABEL, Inspection, inspect
from thalweg.data.text.normalize import Normalizer
from thalweg.errors import InputError, counted
from thalweg.report.text import one_line
from thalweg.training.folder.opening import settings_of
from thalweg.training.folder.run import Run
from thalweg.training.integrity.history import finite
from thalweg.training.integrity.verifying import WHOLE, verify
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session.reading import open_data

SHOWN_LABELS = 20
SHOWN_ROWS = 5
SHOWN_SENTENCES = 8
SHOWN_CHARACTERS = 160
SHOWN_LABEL = 60
BAR = 30
REBUILT = "Inputs, targets, weights, penalty and loss were computed again from {}, and took the place of the file's."


def inspect_and_show(given: Options, *, as_json: bool) -> int:
    """Inspect a file, print what was found on standard output, and return the exit code."""
    guess: list[str] = []
    opened = open_data(given, guess.append, to_look=True)
    recipe, choice, task = complete(opened.decided), opened.choice, names.task_columns(opened.options["task"])
    normalizer = Normalizer(recipe.data.normalize)
    found = inspect(
        opened.source,
        task,
        choice,
        valid_source=opened.valid,
        max_length=recipe.data.max_length,
        normalize=normalizer,
        is_running="running" in names.task_spec(task.task).traits,
    )
    odd = _examined(opened.source, task, choice, recipe)
    texts = {name for role, name in choice.columns.items() if task.roles[role] in (Kind.TEXT, Kind.WORDS)}
    seen = [
        {name: _as_seen(value, normalizer) if name in texts else value for name, value in row.items()}
        for row in found.preview
    ]
    if as_json:
        extra = {"columns_chosen": choice.plain(), "as_seen": seen, "guess": guess[0] if guess else None}
        extra |= {"rows": odd} if odd is not None else {}
        print_json(finite(found.to_json() | extra))
        return 0
    num_valid = found.num_valid_rows if opened.valid else round(recipe.data.valid_share * found.num_rows)
    console = Terminal()
    for part in _parts(found, guess, seen, num_valid, odd):
        console.print(part) if isinstance(part, Table) else console.say(part)
    return 0


def verify_and_show(folder: Path, *, as_json: bool) -> int:
    """Verify a folder, print what was found, and return 0 if everything is whole, else 1."""
    found = verify(folder)
    if as_json:
        print_json(found.to_json())
        return 0 if found.is_whole else 1
    damaged = {name: state for name, state in found.files.items() if state != WHOLE}
    lines = [f"{folder / name} is {state}." for name, state in damaged.items()]
    whole = len(found.files) - len(damaged)
    lines.append(f"{folder}: {counted(whole, 'file')} of {len(found.files):,} {'is' if whole == 1 else 'are'} whole.")
    print_lines([*(f"Repaired: {repair}." for repair in found.repairs), *lines, *found.notes])
    return 0 if found.is_whole else 1


def check_and_show(file: Path, folder: Path | None, *, as_json: bool) -> int:
    """Verify a certificate and print what was verified; return 0 if that carries the interval's bound, else 1.

    It raises an InputError for a file that is no certificate.
    """
    if not file.is_file():
        raise InputError(f"There is no certificate {file}; expected one that `thalweg certify` wrote.")
    try:
        report = _checked(file, folder)
    except check.Unreadable as error:
        raise InputError(str(error)) from None
    if as_json:
        found = {"file": str(file), "accepted": report.bound_verified, "sentences": report.sentences}
        print_json({**found, "verified": report.verified, "refused": report.refused, "verdict": report.verdict})
    else:
        rebuilt = [] if folder is None else [REBUILT.format(folder)]
        print_lines([*report.sentences, *rebuilt, report.verdict])
    return 0 if report.bound_verified else 1


def _checked(file: Path, folder: Path | None) -> check.Report:
    """Return what was found, with the problems of a run in place of the file's if there is one."""
    if folder is None:
        return check.check(file)
    from thalweg.training.certified.certify import open_run
    from thalweg.training.certified.checking import Rebuilt

    rebuilt = Rebuilt(open_run(Run(folder)))
    report = check.check(file, rebuilt)
    for difference in rebuilt.differences(check.read(file)[0]):
        report.refused.append(difference)
        report.sentences.append(f"REFUSED {difference}")
        report.bound_verified = False
    return report


def _examined(source: AbstractSource, task: TaskColumns, choice: Choice, recipe: Recipe) -> list[str] | None:
    """Return what the task finds odd about the rows, in sentences; None where it has nothing to look for."""
    spec = names.task_spec(task.task)
    if not spec.examine:
        return None
    settings = settings_of(recipe, choice.plain())
    read = read_as(source, task, choice, skip_bad_rows=True, keeps_gaps=True)
    return names.load(spec.examine)(read, settings.columns, gaps=settings.gaps, day_first=settings.day_first)


def _as_seen(value: Any, normalizer: Normalizer) -> Any:
    """Return a value of the preview as the model will see it, before tokenization."""
    if isinstance(value, list):
        return [_as_seen(entry, normalizer) for entry in value]
    return normalizer(value) if isinstance(value, str) else value


def _parts(
    found: Inspection, guess: list[str], seen: list[dict[str, Any]], num_valid: int, odd: list[str] | None
) -> Iterator[Any]:
    yield cell(f"{found.name} ({found.kind}), task {found.task}", style="bold")
    yield from guess
    yield from found.notes
    yield found.choice.sentence
    yield ""
    yield f"{found.num_rows:,} rows; columns: {', '.join(found.columns)}."
    if found.num_bad_rows:
        yield f"{counted(found.num_bad_rows, 'row')} cannot be read:"
        yield from (f"  line {row.line}: {row.reason}" for row in found.bad_rows)
    if found.num_unusable:
        them = "them" if found.num_unusable > 1 else "it"
        yield (
            f"{counted(found.num_unusable, 'row')} cannot be used by the task {found.task}: thalweg train refuses "
            f"{them}, or leaves {them} out with --skip-bad-rows:"
        )
        yield from (f"  line {row.line}: {row.reason}" for row in found.unusable_rows)
        if (more := found.num_unusable - len(found.unusable_rows)) > 0:
            yield f"  ... and {counted(more, 'more row')}."
    if found.labels:
        yield from ("", _labels(found.labels))
    if found.lengths:
        yield from ("", _lengths(found))
    if found.numbers:
        yield from ("", _numbers(found))
    yield from ("", Text("Findings", style="bold"))
    findings = [*_findings(found, num_valid), *(f"  {sentence}" for sentence in (odd or ())[:SHOWN_SENTENCES])]
    yield from findings
    if (more := len(odd or ()) - SHOWN_SENTENCES) > 0:
        yield f"  ... and {counted(more, 'more such sentence')}."
    looked = [*found.looked_for, *([] if odd is None else [names.task_spec(found.task).examines])]
    yield f"  {'Looked for' if findings else 'Nothing found. Looked for'}: {'; '.join(looked)}."
    yield ""
    yield Text("What the model will see (before tokenization)", style="bold")
    for row in seen:
        for name, value in row.items():
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"  {name}: {one_line(text[:SHOWN_CHARACTERS])}{'...' if len(text) > SHOWN_CHARACTERS else ''}"
        yield ""


def _table(title: str, columns: Sequence[str]) -> Table:
    """Return an empty table: words in the first column and under no title are on the left, figures on the right."""
    table = Table(box=None, title=title, title_justify="left", title_style="bold", pad_edge=True)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place and name else "left")
    return table


def _labels(labels: dict[str, int]) -> Table:
    table = _table(f"{len(labels):,} labels", ("label", "rows", "percent", ""))
    total, most = sum(labels.values()), max(labels.values())
    for name, count in list(labels.items())[:SHOWN_LABELS]:
        bar = "█" * max(1, round(BAR * count / most))
        table.add_row(cell(name, SHOWN_LABEL), f"{count:,}", f"{count / total:.1%}", bar)
    if len(labels) > SHOWN_LABELS:
        rest = sum(list(labels.values())[SHOWN_LABELS:])
        table.add_row(f"({len(labels) - SHOWN_LABELS:,} more)", f"{rest:,}", f"{rest / total:.1%}", "")
    return table


def _lengths(found: Inspection) -> Table:
    quantiles = [f"{float(name):.0%}" for name in found.lengths[0].quantiles]
    table = _table("Lengths in words", ("column", "texts", "mean", "min", *quantiles, "max"))
    for one in found.lengths:
        middle = [f"{value:,}" for value in one.quantiles.values()]
        cells = [f"{one.count:,}", f"{one.mean:.1f}", f"{one.minimum:,}", *middle, f"{one.maximum:,}"]
        table.add_row(cell(one.column, SHOWN_LABEL), *cells)
    return table


def _numbers(found: Inspection) -> Table:
    table = _table("Numbers", ("column", "values", "mean", "std", "min", "max"))
    for one in found.numbers:
        figures = (one.mean, one.deviation, one.minimum, one.maximum)
        table.add_row(cell(one.column, SHOWN_LABEL), f"{one.count:,}", *(f"{figure:.5g}" for figure in figures))
    return table


def _findings(found: Inspection, num_valid: int) -> Iterator[str]:
    """Yield what a careful person would look into, one line each; so many rows are going to validate."""
    yield from (f"  {sentence}" for sentence in found.choice.unclear)
    if found.num_duplicates:
        verb = "repeats" if found.num_duplicates == 1 else "repeat"
        yield f"  {counted(found.num_duplicates, 'row')} {verb} an earlier text (kept on the same side of the split):"
        yield from (f"    line {line} repeats line {first}: {text!r}" for line, first, text in found.duplicates)
        if (more := found.num_duplicates - len(found.duplicates)) > 0:
            yield f"    ... and {counted(more, 'more row')}."
    yield from _conflicts(found)
    yield from (f"  {sentence}" for sentence in found.label_problems)
    if found.num_unlabeled:
        verb = "has" if found.num_unlabeled == 1 else "have"
        rows = f"{counted(found.num_unlabeled, 'row')} {verb} no label"
        yield f"  {rows} and {_be(found.num_unlabeled)} left out (lines {_listed(found.unlabeled_lines)})."
    for one in found.lengths:
        if one.num_empty:
            texts = f"{counted(one.num_empty, 'text')} of '{one.column}' {_be(one.num_empty)}"
            yield f"  {texts} empty (lines {_listed(one.empty_lines)})."
        if one.num_too_long:
            where = _listed(one.too_long_lines)
            texts = f"{counted(one.num_too_long, 'text')} of '{one.column}' {_be(one.num_too_long)}"
            yield f"  {texts} longer than --max-length (lines {where})."
    for one in found.numbers:
        if one.num_missing and one.column in found.choice.series:
            values = f"{counted(one.num_missing, 'value')} of '{one.column}' {_be(one.num_missing)}"
            yield f"  {values} missing (line{'s' if one.num_missing > 1 else ''} {_listed(one.missing_lines)})."
    yield from (f"  {one.stand_ins}" for one in found.numbers if one.stand_ins)
    if found.num_shared:
        rows = f"{counted(found.num_shared, 'row')} (lines {_listed(found.shared_lines)})"
        yield f"  {problems.trained_on(found.num_shared / found.num_valid_rows)}: {rows}."
    if found.num_valid_unusable:
        first = "; ".join(f"line {row.line}: {row.reason}" for row in found.valid_unusable_rows[:SHOWN_ROWS])
        yield f"  {counted(found.num_valid_unusable, 'validation row')} cannot be read or used ({first})."
    for label, count in list(found.unseen_labels.items())[:SHOWN_LABELS]:
        yield f"  Label {label!r} is in {counted(count, 'validation row')} and in no training row."
    if constant := [repr(one.column) for one in found.numbers if one.count > 1 and one.minimum == one.maximum]:
        yield f"  {problems.constant_columns(constant)}"
    if "labels" in names.task_spec(found.task).traits and 0 < num_valid < problems.FEW_EXAMPLES:
        yield f"  {problems.few_examples(num_valid)}"
    if rare := found.rare_labels:
        have = "has" if len(rare) == 1 else "have"
        yield f"  {counted(len(rare), 'label')} {have} fewer than {MIN_ROWS_OF_A_LABEL} rows ({_listed(rare[:8])})."


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _conflicts(found: Inspection) -> Iterator[str]:
    """Yield the texts that come with different labels, and what they cost every model."""
    if not found.num_conflicts:
        return
    verb = "comes" if found.num_conflicts == 1 else "come"
    yield (
        f"  {counted(found.num_conflicts, 'text')} ({found.num_conflict_rows:,} rows) {verb} with different labels, so "
        f"every model that sees only the normalized text is wrong on at least {counted(found.conflict_errors, 'row')}"
        f"{_at_least(found.conflict_nats)}:"
    )
    for one in found.conflicts:
        labels = "; ".join(
            f"{label!r} {_places(count, lines)}"
            for label, count, lines in zip(one.labels, one.counts, one.lines, strict=True)
        )
        more = f"; {one.num_labels - len(one.labels):,} more labels" if one.num_labels > len(one.labels) else ""
        yield f"    {labels}{more}: {one.text!r}"
    if found.num_conflicts > len(found.conflicts):
        yield f"    ... and {counted(found.num_conflicts - len(found.conflicts), 'more text')}."


def _at_least(nats: float | None) -> str:
    """Return what a sum of cross-entropies is at least, rounded down, as the end of a sentence."""
    return "" if nats is None else f" and pays at least {math.floor(100.0 * nats) / 100.0:,.2f} nats in all"


def _places(count: int, lines: Sequence[int]) -> str:
    """Return on which lines a label stands, the first of them where they are many."""
    noun = "line" if count == 1 else "lines"
    return f"({noun} {_listed([*lines, *(['...'] if count > len(lines) else [])])})"


def _listed(items: list[Any]) -> str:
    return ", ".join(map(str, items))
