"""Progress of a training in a notebook: one line that is written anew, below it the last evaluations."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from thalweg.report.cells import block, table

SECONDS: Final = 0.5  # between two pictures
SHOWN: Final = 5  # evaluations


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


def notebook_watch(name: str, total_steps: int) -> Callable[[dict[str, Any]], None]:
    """Return what shows the history of a run in a notebook, and nothing elsewhere."""
    return NotebookLine(name, total_steps).show if in_notebook() else lambda entry: None  # noqa: ARG005


@final
class NotebookLine:
    """Shows entries of a history in one place of a notebook, at most twice a second.

    Args:
        name: of the run.
        total_steps: how many steps it takes.
    """

    def __init__(self, name: str, total_steps: int) -> None:
        self._name, self._total_steps = name, total_steps
        self._handle: Any = None
        self._shown = 0.0
        self._line = "begins"
        self._evaluations: deque[Mapping[str, Any]] = deque(maxlen=SHOWN)

    def show(self, entry: Mapping[str, Any]) -> None:
        """Take an entry, and write the line anew where it is time for that."""
        event = entry["event"]
        if event == "step":
            self._line = (
                f"step {entry['step']:,} of {self._total_steps:,}: loss {entry['loss']:.4g}, lr {entry['lr']:.2g}"
            )
        elif event == "evaluation":
            self._evaluations.append(entry)
        elif event == "finished":
            self._line = f"{entry['step']:,} steps"
        now = time.monotonic()
        if event == "finished" or now - self._shown >= SECONDS:
            self._shown = now
            self._display()

    def html(self) -> str:
        """Return the present picture."""
        if not self._evaluations:
            return block(f"{self._name}: {self._line}", [])
        names = list(self._evaluations[-1]["metrics"])[:4]
        rows = [(one["step"], one["loss"], *(one["metrics"].get(name) for name in names)) for one in self._evaluations]
        columns = ("step", "validation loss", *(name.replace("_", " ") for name in names))
        return block(f"{self._name}: {self._line}", [table(columns, rows)])

    def _display(self) -> None:
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        if self._handle is None:
            self._handle = display(HTML(self.html()), display_id=True)
        else:
            self._handle.update(HTML(self.html()))
