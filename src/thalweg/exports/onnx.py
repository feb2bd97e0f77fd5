"""A run as an ONNX file that has been compared with the run, with what reading and answers mean beside it."""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from thalweg.errors import InputError
from thalweg.exports.graph import Graph
from thalweg.exports.numbers import of_forecast
from thalweg.exports.recurrent import as_nodes
from thalweg.exports.texts import of_classify, of_language, of_score, of_tag, of_translate
from thalweg.storage.files import make_folder, remove, temporary_name, write_file
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.forecast.task import Forecast
from thalweg.tasks.language.task import Language
from thalweg.tasks.score.task import Score
from thalweg.tasks.spec import PRETRAINED
from thalweg.tasks.tag.task import Tag
from thalweg.tasks.translate.task import Translate
from thalweg.training.folder.run import Run

MODEL, ABOUT, README = "model.onnx", "model.json", "README.md"
TOLERANCE: Final = 1e-5  # of probabilities; of other numbers as a share of the largest, where that is above 1
NEEDS: Final = "Exporting to ONNX needs the extra onnx; install it with: pip install 'thalweg[onnx]'"
_GRAPHS: Final[dict[type, Callable[..., Graph]]] = {
    Classify: of_classify,
    Forecast: of_forecast,
    Language: of_language,
    Score: of_score,
    Tag: of_tag,
    Translate: of_translate,
}
_LOGGERS: Final = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "onnxscript", "onnx_ir", "torch")


def export_onnx(run: Run, folder: str | Path) -> dict[str, Any]:
    """Write a run as `model.onnx`, with `model.json`, a README and the files that reading text needs.

    The graph takes batches of any size and texts of any length up to the run's. It is compared with the run on several
    inputs by onnxruntime before anything is written; the folder is there as a whole, or not at all.

    Args:
        run: a finished run.
        folder: where to write; it must not be there yet.

    Returns:
        What `model.json` says: inputs, outputs, labels and the like, and the largest difference from the run.

    Raises:
        InputError: if the run has no such graph, the folder is there, the extra `onnx` is missing, or the graph answers
            otherwise than the run.

    Not for runs whose answers are found by a search: a CRF, continuous outputs, translations as a whole.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder} is there already; name another folder with --out, or remove it.")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError(f"{NEEDS}.") from None
    if run.recipe.model.model.startswith(PRETRAINED):
        raise InputError(
            f"{run.folder} is of a pretrained model, which has no ONNX graph here; train with another --model."
        )
    task, model, head = run.task, run.model, run.head
    make = _GRAPHS.get(type(task))
    if make is None:
        raise InputError(f"Runs of the task '{task.name}' cannot be exported to ONNX.")
    graph = make(task, model, head)
    content = _traced(graph)
    difference = _compared(graph, content)
    about = {
        "task": task.name,
        "model": run.recipe.model.model,
        "inputs": [vars(port) for port in graph.inputs],
        "outputs": [vars(graph.output)],
        **graph.about,
        "largest_sizes": graph.largest,
        "largest_difference": difference,
    }
    texts = {ABOUT: json.dumps(about, indent=1, ensure_ascii=False) + "\n", README: _readme(run, graph, difference)}
    make_folder(folder.absolute().parent)
    part = temporary_name(folder.absolute())
    try:
        part.mkdir()
        for name, data in {MODEL: content, **graph.files, **texts}.items():
            write_file(part / name, data)
        os.rename(part, folder)
    finally:
        if part.exists():
            remove(part)
    return about


def _traced(graph: Graph) -> bytes:
    """Return the graph as the content of an ONNX file."""
    sizes: dict[str, Any] = {}
    for port in graph.inputs:
        for size in port.shape:
            if isinstance(size, str) and size not in sizes:
                most = graph.most.get(size)
                sizes[size] = torch.export.Dim(size) if most is None else torch.export.Dim(size, max=most)
    shapes = tuple(
        {place: sizes[size] for place, size in enumerate(port.shape) if isinstance(size, str)} for port in graph.inputs
    )
    first = graph.examples[0].feeds
    arguments = tuple(torch.from_numpy(first[port.name].astype(port.kind)) for port in graph.inputs)
    as_nodes(graph.network)
    with _quiet():
        try:
            program = torch.onnx.export(
                graph.network, arguments, dynamo=True, dynamic_shapes=shapes, verbose=False,
                input_names=[port.name for port in graph.inputs], output_names=[graph.output.name],
            )  # fmt: skip
        except Exception as error:  # the exporter raises errors of many kinds, for what it cannot trace
            raise InputError(f"This network cannot be exported to ONNX: {_first_line(error)}") from None
        assert program is not None
        return program.model_proto.SerializeToString()


def _compared(graph: Graph, content: bytes) -> float:
    """Return the largest difference from the run's answers; one that is too large is an InputError."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for example in graph.examples:
        feeds = {port.name: example.feeds[port.name].astype(port.kind) for port in graph.inputs}
        try:
            (found,) = session.run([graph.output.name], feeds)
        except Exception as error:  # onnxruntime has no class of its own for them
            raise InputError(f"The ONNX graph cannot be run: {_first_line(error)}") from None
        found, answer = np.asarray(found, dtype=np.float64), example.answer
        if example.counts is not None:
            found, answer = found[example.counts], answer[example.counts]
        if found.shape != answer.shape:
            raise InputError(f"The ONNX graph gives numbers of the shape {found.shape}, and the run {answer.shape}.")
        unit = max(1.0, float(np.abs(answer).max(initial=0.0)))
        largest = max(largest, float(np.abs(found - answer).max(initial=0.0)) / unit)
    if not largest <= TOLERANCE:
        raise InputError(f"The ONNX graph does not answer as the run does (difference {largest:.2g}); it is not kept.")
    return largest


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings about its own code from the user."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__


def _readme(run: Run, graph: Graph, difference: float) -> str:
    largest = [f"Largest sizes: {', '.join(f'{name} {size:,}' for name, size in graph.largest.items())}."]
    parts = [
        f"# {run.folder.name}",
        f"A thalweg run of the task {run.task.name} (model {run.recipe.model.model}) as an ONNX graph, `{MODEL}`. "
        f"`{ABOUT}` has the same as data: names, types, shapes, labels.",
        "## Inputs",
        _listed([port.text for port in graph.inputs]),
        "## Output",
        _listed([graph.output.text]),
        "## Reading",
        _listed([*graph.reading, *(largest if graph.largest else [])]),
        "## Checked",
        f"With onnxruntime on the CPU, {len(graph.examples)} batches differ from the run's own answers by at most "
        f"{difference:.1e} (numbers above 1: as a share of the largest).",
    ]
    return "\n\n".join(parts) + "\n"


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)
