"""`thalweg serve`."""

from collections.abc import Callable
from pathlib import Path

from thalweg.serving.requests import Limits
from thalweg.serving.server import serve
from thalweg.training.folder.run import Run


def serve_and_wait(folder: Path, host: str, port: int, limits: dict[str, float], say: Callable[[str], None]) -> int:
    """Serve a run until a signal says to end, and return the exit code."""
    serve(Run(folder), host, port, Limits(**limits), say)  # type: ignore[arg-type]
    return 0
