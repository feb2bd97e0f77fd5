"""`thalweg export`."""

from collections.abc import Callable
from pathlib import Path

from thalweg.cli.output import print_json, print_lines
from thalweg.exports.hub import export_transformers
from thalweg.exports.onnx import MODEL, export_onnx
from thalweg.training.folder.run import Run


def show_graph(folder: Path, out: Path | None, say: Callable[[str], None], *, as_json: bool, quiet: bool) -> int:
    """Export a run to ONNX, print where it is and how far it is from the run, and return the exit code."""
    run = Run(folder)
    place = out or folder.with_name(f"{folder.absolute().name}-onnx")
    say("Tracing the network, and comparing the graph with the run.")
    about = export_onnx(run, place)
    if as_json:
        print_json({"folder": str(place), **about})
    elif not quiet:
        print_lines([
            f"{place / MODEL}: answers as the run does, up to {about['largest_difference']:.1e}.",
            *(f"input   {_line(port)}" for port in about["inputs"]),
            *(f"output  {_line(port)}" for port in about["outputs"]),
        ])  # fmt: skip
    return 0


def show_folder(folder: Path, out: Path | None, say: Callable[[str], None], *, as_json: bool, quiet: bool) -> int:
    """Export a run for transformers, print where it is and what opens it, and return the exit code."""
    run = Run(folder)
    place = out or folder.with_name(f"{folder.absolute().name}-transformers")
    say("Writing the folder, and comparing its answers with the run's.")
    about = export_transformers(run, place)
    if as_json:
        print_json({"folder": str(place), **about})
    elif not quiet:
        print_lines([
            f"{place}: {about['opens_with']}.from_pretrained opens it, and it answers as the run does, up to "
            f"{about['largest_difference']:.1e}; README.md has the code.",
        ])  # fmt: skip
    return 0


def _line(port: dict[str, object]) -> str:
    shape = port["shape"]
    assert isinstance(shape, tuple)
    return f"{port['name']}  {port['kind']} [{', '.join(map(str, shape))}]"
