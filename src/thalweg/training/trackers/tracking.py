"""The trackers of a run: opened with its first entry, told of every entry, and never in the way of training."""

import contextlib
import importlib.util
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

from thalweg import distributed, names
from thalweg.errors import InputError
from thalweg.storage.files import write_file
from thalweg.training.recipe.recipe import Recipe
from thalweg.training.trackers.base import About, AbstractTracker, Plain

IDENTITIES: Final = "trackers.json"  # in the run's folder: what each tracker knows the run by
MOST_STEPS: Final = 5000  # of a run that are told, about as many as its history has
_OF_STEPS: Final = ("loss", "lr", "grad_norm", "gap", "examples_per_second", "tokens_per_second")


def require_trackers(wanted: Iterable[str]) -> None:
    """Raise an InputError where the package of a tracker is not installed."""
    for name in wanted:
        package = names.find(names.TRACKERS, name, "tracker").package
        if importlib.util.find_spec(package) is None:
            extra = " (or pip install 'thalweg[log]')" if package == "tensorboardX" else ""
            raise InputError(
                f"--log {name} needs the package {package}: pip install {package}{extra}, or leave it out."
            )


@contextlib.contextmanager
def tracking(recipe: Recipe, folder: Path, total_steps: int, say: Callable[[str], None]) -> "Iterator[Trackers]":
    """Give what takes the entries of a run's history; of several processes the first one tells the trackers.

    `say` takes a sentence about a tracker that has failed, which is told nothing more.
    """
    wanted = recipe.training.log if distributed.is_first() else ()
    trackers = Trackers(wanted, recipe, folder, max(1, total_steps // MOST_STEPS), say)
    try:
        yield trackers
    except BaseException:
        trackers.close("failed")
        raise
    trackers.close("interrupted")  # which a run that has its figures does not come to


@final
class Trackers:
    """Those of one run; see `tracking`."""

    def __init__(
        self, wanted: Iterable[str], recipe: Recipe, folder: Path, every: int, say: Callable[[str], None]
    ) -> None:
        self._wanted, self._recipe, self._folder, self._every, self._say = tuple(wanted), recipe, folder, every, say
        self._open: dict[str, AbstractTracker] | None = None
        self._step = 0

    def take(self, entry: Mapping[str, Any]) -> None:
        """Tell the trackers of an entry of the history."""
        if not self._wanted:
            return
        event, step = entry["event"], entry.get("step", self._step)
        if event == "rollback":
            self._each(lambda tracker: tracker.go_back(entry["to_step"]))
            self._step = entry["to_step"]
            return
        figures = figures_of(entry)
        self._step = step
        if event == "evaluation" or (event == "step" and step % self._every == 0):
            self._each(lambda tracker: tracker.log(step, figures))
        elif self._open is None and event == "resumed":
            self._each(lambda tracker: None)  # noqa: ARG005  (which opens them at this step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Tell the trackers of the final figures, and close them."""
        if summary["status"] != "INTERRUPTED":
            kept = {"loss": summary.get("loss"), **summary["metrics"]}
            self.close("finished", {f"final/{name}": value for name, value in kept.items()})

    def close(self, status: str, figures: Mapping[str, Any] | None = None) -> None:
        """Close the trackers that are open."""
        final = _finite(figures or {})
        if self._open:
            self._each(lambda tracker: tracker.close(self._step, final, status))
        self._wanted, self._open = (), {}

    def _each(self, tell: Callable[[AbstractTracker], None]) -> None:
        if self._open is None:
            self._open = {}
            known = self._known()
            for name in self._wanted:
                self._guarded(name, lambda name=name: self._begin(name, known))
            found = {name: tracker.identity for name, tracker in self._open.items()}
            if found and found != known:
                self._guarded("", lambda: write_file(self._folder / IDENTITIES, json.dumps(found).encode()))
        for name, tracker in list(self._open.items()):
            self._guarded(name, lambda tracker=tracker: tell(tracker))

    def _begin(self, name: str, known: Mapping[str, str]) -> None:
        kind: type[AbstractTracker] = names.load(names.TRACKERS[name])
        options = {option: _plain(value) for option, value in self._recipe.values().items()}
        assert self._open is not None
        self._open[name] = kind.open(About(self._folder, options, self._step, known.get(name, "")))

    def _known(self) -> dict[str, str]:
        """Return what the run is known by, where it goes on."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self._folder / IDENTITIES).read_bytes())
            if isinstance(found, dict):
                return {str(name): str(value) for name, value in found.items()}
        return {}

    def _guarded(self, name: str, work: Callable[[], object]) -> None:
        """Do something for a tracker; if it fails, say so once and leave that tracker out from then on."""
        try:
            work()
        except Exception as error:
            assert self._open is not None
            self._open.pop(name, None)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            self._say(f"--log {name} has failed, and gets no more figures; training goes on ({reason}).")


def figures_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return what trackers get of an entry, by the names that their users expect.

    Example:
        >>> figures_of({"event": "step", "step": 3, "loss": 0.5, "lr": 0.01, "grad_norm": float("inf")})
        {'train/loss': 0.5, 'train/lr': 0.01}
        >>> figures_of({"event": "evaluation", "step": 3, "loss": 0.7, "metrics": {"accuracy": 0.9}})
        {'valid/loss': 0.7, 'valid/accuracy': 0.9}
    """
    if entry["event"] == "step":
        return _finite({f"train/{name}": entry[name] for name in _OF_STEPS if name in entry})
    if entry["event"] == "evaluation":
        return _finite({"valid/loss": entry["loss"], **{f"valid/{n}": value for n, value in entry["metrics"].items()}})
    return {}


def _finite(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}


def _plain(value: Any) -> Plain:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, default=str)
