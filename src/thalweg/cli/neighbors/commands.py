"""The commands that bring a run to other programs: their arguments. Imports no torch."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from thalweg.cli.options import duration, whole
from thalweg.cli.output import Terminal, speaker
from thalweg.errors import InputError
from thalweg.names import load

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


def export(
    folder: Path,
    /,
    *,
    onnx: Flag = False,
    transformers: Flag = False,
    out: Path | None = None,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Export a run to another program's format.

    With --onnx, writes a folder with model.onnx, what its inputs and outputs are (model.json and README.md), and the
    files that reading text needs. The graph is compared with the run by onnxruntime first, to 1e-5.

    With --transformers, writes a run of a pretrained model (--model hf:PATH) as a folder that Hugging Face's
    transformers opens: config.json, model.safetensors, tokenizer.json, and README.md with the code that answers. The
    folder is opened again and compared with the run first, to 1e-4.

    Args:
        folder: The run's folder, such as runs/docstrings.
        onnx: As an ONNX graph, which needs the extra onnx.
        transformers: As a folder for transformers, which needs the extra hub.
        out: Folder to write, which must not be there yet; default: the run's with -onnx or -transformers after its
            name.
        json: Print what was written as one JSON object on standard output (of a graph: what model.json says).
        quiet: Print nothing but errors.
    """
    if onnx == transformers:
        raise InputError("Say which format to export to: --onnx or --transformers.")
    show = load(f"thalweg.cli.neighbors.export:{'show_graph' if onnx else 'show_folder'}")
    return show(folder, out, speaker(Terminal(stderr=True), quiet), as_json=json, quiet=quiet)


def serve(
    folder: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(converter=whole)] = 8000,
    max_body: Annotated[int, Parameter(converter=whole)] = 2**20,
    max_inputs: Annotated[int, Parameter(converter=whole)] = 256,
    max_characters: Annotated[int, Parameter(converter=whole)] = 100_000,
    max_length: Annotated[int, Parameter(converter=whole)] = 1000,
    max_waiting: Annotated[int, Parameter(converter=whole)] = 4096,
    timeout: Annotated[float, Parameter(converter=duration)] = 30.0,
    quiet: Flag = False,
) -> int:
    """Answer requests over HTTP with a run.

    POST /predict takes {"inputs": [...]} or {"input": ...}, with options of answers such as "top", and gives what
    thalweg predict --json prints. GET /health and GET / say that it is there and what the run is. Requests that come
    together are answered together. SIGTERM or Ctrl-C ends it once every request has its answer, with exit code 0. It
    needs the extra serve.

    Args:
        folder: The run's folder, such as runs/docstrings.
        host: Address to listen at; 0.0.0.0 is every address of the machine.
        port: Port to listen at; 0 takes a free one.
        max_body: Bytes of a request.
        max_inputs: Inputs of a request.
        max_characters: Characters of an input.
        max_length: The largest "length" that may be asked for: tokens that are generated, or steps of a forecast.
        max_waiting: Inputs of all requests that wait; more are refused with 503.
        timeout: Time for a request (30s, 1m).
        quiet: Print nothing but errors.
    """
    limits = {
        "body": max_body,
        "inputs": max_inputs,
        "characters": max_characters,
        "length": max_length,
        "waiting": max_waiting,
        "seconds": timeout,
    }
    start = load("thalweg.cli.neighbors.serve:serve_and_wait")
    return start(folder, host, port, limits, speaker(Terminal(stderr=True), quiet))
