"""The commands that bring a run to other programs: their arguments. Imports no torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.cli.output import Terminal, speaker
from thalweg.errors import InputError
from thalweg.names import load

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


def export(
    folder: Path, /, *, onnx: Flag = False, out: Path | None = None, json: Flag = False, quiet: Flag = False
) -> int:
    """Export a run to another program's format.

    With --onnx, writes a folder with model.onnx, what its inputs and outputs are (model.json and README.md), and the
    files that reading text needs. The graph is compared with the run by onnxruntime first, to 1e-5.

    Args:
        folder: The run's folder, such as runs/docstrings.
        onnx: As an ONNX graph, which needs the extra onnx.
        out: Folder to write, which must not be there yet; default: the run's with -onnx after its name.
        json: Print what model.json says as one JSON object on standard output.
        quiet: Print nothing but errors.
    """
    if not onnx:
        raise InputError("Say which format to export to: --onnx.")
    show = load("thalweg.cli.neighbors.export:export_and_show")
    return show(folder, out, speaker(Terminal(stderr=True), quiet), as_json=json, quiet=quiet)
