"""`thalweg predict` and `thalweg evaluate`."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from rich.cells import cell_len, set_cell_size

from thalweg.cli.asking.interactive import asked_lines, is_seen
from thalweg.cli.output import CsvTable, print_answers, print_json, print_lines, print_pieces
from thalweg.data.columns.choice import existing
from thalweg.data.columns.facts import shortened
from thalweg.data.containers.opening import open_like
from thalweg.data.files.base import AbstractSource, BadRow, Row
from thalweg.errors import InputError, counted, lowered
from thalweg.report.text import one_line
from thalweg.tasks.answering import candidate_lines, figure_lines
from thalweg.tasks.questions import AnswerOptions, Question, flat
from thalweg.training.folder.answers import ERROR, answers_to, batches, is_answer, require_alone, require_read
from thalweg.training.folder.columns import NAMED
from thalweg.training.folder.opening import has_series
from thalweg.training.folder.run import Run
from thalweg.training.integrity.checkpoint_names import is_online
from thalweg.training.integrity.history import finite
from thalweg.training.recipe.recipe import one_source
from thalweg.training.steps.held_out import brackets, interval_notes, to_json, told_of_file, written_notes

if TYPE_CHECKING:
    from thalweg.online.learn import OnlineModel
    from thalweg.training.steps.evaluate import Evaluation

LINE, NOTE = "line", "note"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
LONGEST_NAME = 60  # of a class
MAX_CLASSES = 30  # with figures on the terminal
MAX_TOLD = 3  # reasons in the sentence at the end

Say = Callable[[str], None]


@final
@dataclasses.dataclass(frozen=True)
class Shape:
    """How answers are printed.

    Args:
        form: "lines" for people, "json" or "csv".
        keep: columns of the file that are printed with each answer.
        top: candidates that were asked for, in a table; 0: nobody asked.
        skip: whether what has no answer is left out.
    """

    form: str
    keep: tuple[str, ...] = ()
    top: int = 0
    skip: bool = False


@final
@dataclasses.dataclass(frozen=True)
class Answerer:
    """What gives the answers: a run, or a model that learns from a stream."""

    answers: Callable[[list[Question], int], list[dict[str, Any]]]  # of questions, the first of which has that place
    lines: Callable[[Mapping[str, Any]], list[str]]
    keys: tuple[str, ...]  # of an answer
    columns: tuple[str, ...]  # of a table of answers
    rows: Callable[[Mapping[str, Any]], list[dict[str, Any]]]  # an answer as rows of that table
    stream: Callable[[Any, int], Iterator[str]] | None = None  # the lines of one answer, as they are written


def predict_and_show(
    folder: Path,
    arguments: list[str],
    file: Path | None,
    options: dict[str, Any],
    named: Mapping[str, Any],
    shape: Shape,
    say: Say,
) -> int:
    """Answer arguments, a file's rows or the lines of standard input as they come, and return the exit code.

    Whatever is wrong with one of them, each has its answer, in order.
    """
    if arguments and file is not None:
        raise InputError(
            f"Give the inputs as arguments or with --file, not both; got the arguments {shortened(arguments, 3)}."
        )
    if file is None:
        _require_file(named, shape)
    shape = dataclasses.replace(shape, top=options.get("top", 0))
    if is_online(folder):
        return _predict_online(folder, arguments, file, options, named, shape, say)
    run = Run(folder)
    require_read(run.recipe.run.task, options)
    score = bool(options.pop("score", False))
    require_alone(options, score=score)
    if shape.keep and has_series(run.recipe.run.task):
        raise InputError("--keep is for answers to rows; a forecast is of a whole series. Leave it out.")
    length, threshold = options.get("length"), options.pop("threshold", None)
    if length is not None and length < 1:
        raise InputError(f"--length must be at least 1; got {length}.")
    tokens = options.pop("tokens", False)
    asked = AnswerOptions(**options)
    task, predict = run.answering(threshold, score=score)
    task.check_options(asked)
    answerer = Answerer(
        lambda questions, first: answers_to(task, predict, questions, asked, first=first),
        lambda answer: task.lines_of(answer, shape.top),
        task.answer_keys,
        task.table_columns(shape.top),
        lambda answer: task.table_rows(answer, shape.top),
    )
    is_whole = shape.form != "lines" or asked.samples > 1 or file is not None or not is_seen(sys.stdin, len(arguments))
    if task.streams and not is_whole:
        model, head = run.model, run.head

        def stream(value: Any, place: int) -> Iterator[str]:
            return task.stream(model, head, value, dataclasses.replace(asked, places=(place,)))

        answerer = dataclasses.replace(answerer, stream=stream)
    source = None
    if file is None:
        questions = _typed(arguments, lambda text: task.parse_input(text, length), say)
    else:
        source = open_like(vars(run.recipe.data), file, named, skip_bad_rows=True, once=True)
        questions, notes = run.questions(source, named, length, task)
        for note in (*source.notes, *notes):
            say(note)
    if tokens:
        questions = (entry and _split(entry) for entry in questions)
    return _show(answerer, questions, source, shape, say)


def _require_file(named: Mapping[str, Any], shape: Shape) -> None:
    """Refuse options that speak of a file's columns where there is no file."""
    given = [name for name, value in named.items() if value and name in NAMED] + (["keep"] if shape.keep else [])
    if given:
        raise InputError(f"--{given[0].replace('_', '-')} is for the columns of a file; give one with --file.")


def _split(question: Question) -> Question:
    value = question.value
    return dataclasses.replace(question, value=value.split()) if isinstance(value, str) else question


def _typed(arguments: Sequence[str], parse: Callable[[str], Any], say: Say) -> Iterator[Question | None]:
    """Yield a question for each argument, or for each line of standard input; None where none has come yet."""
    for text in arguments:
        if _SURROGATE.search(text):
            yield Question(problem="expected UTF-8 text")
        else:
            yield _parsed(None, text, parse)
    for row in () if arguments else asked_lines(sys.stdin, say):
        if isinstance(row, Row):
            yield _parsed(row.line, row.values[0], parse)
        else:
            yield row and Question(line=row.line, problem=row.reason)


def _parsed(line: int | None, text: str, parse: Callable[[str], Any]) -> Question:
    try:
        return Question(parse(text), line)
    except InputError as error:
        return Question(None, line, lowered(str(error)))


def _show(
    answerer: Answerer, questions: Iterable[Question | None], source: AbstractSource | None, shape: Shape, say: Say
) -> int:
    """Print the answers as they come, and tell at the end how many there are not."""
    kept = _kept(source, shape.keep, (*answerer.keys, *answerer.columns))
    table = None
    num, failed = 0, []
    num_failed = 0
    noted, last = _Noted(), None
    for batch in batches(questions):
        if answerer.stream is not None and len(batch) == 1 and not batch[0].problem:
            print_pieces(answerer.stream(batch[0].value, num))
            num += 1
            continue
        if shape.form == "csv" and table is None:
            numbered = (LINE,) if any(question.line is not None for question in batch) else ()
            table = CsvTable((*numbered, *kept, *answerer.columns, ERROR))
        for question, answer in zip(batch, answerer.answers(batch, num), strict=True):
            num += 1
            if not is_answer(answer):
                num_failed += 1
                failed += [f"{question.where}{answer[ERROR].rstrip('.')}"] if len(failed) < MAX_TOLD else []
                if shape.skip:
                    continue
            place: dict[str, Any] = {} if question.line is None else {LINE: question.line}
            row = place | {name: question.cells[i] if question.cells else None for name, i in kept.items()}
            if table is not None:
                rows = answerer.rows(answer) if is_answer(answer) else [{ERROR: answer[ERROR]}]
                table.print_rows([row | more for more in rows])
            elif shape.form == "json":
                print_json(finite({**row, **answer}))
            else:
                noted.add(answer.get(NOTE), question.line, num)
                lines = (
                    answerer.lines(answer) if is_answer(answer) else [f"(no answer: {question.where}{answer[ERROR]})"]
                )
                beside = "".join(f"{value}\t" for value in row.values()) if kept else ""
                texts = [f"{beside}{lines[0]}", *lines[1:]]
                print_answers(_apart(texts, last))
                last = texts[-1]
    for remark in source.remarks if source is not None else ():
        say(remark)
    for remark in noted.remarks(num, source):
        say(remark)
    if not num_failed:
        return 0
    listed = "; ".join(failed) + ("; ..." if num_failed > len(failed) else "")
    name, noun = (f"{source.name}: ", "row") if source is not None else ("", "input")
    instead = "; they are left out" if shape.skip else {"json": "; each has null in its place"}.get(shape.form, "")
    if num_failed == num:
        if num == 1:
            raise InputError(f"{name}{failed[0][:1].upper()}{failed[0][1:]}." if not name else f"{name}{failed[0]}.")
        raise InputError(f"{name}none of the {counted(num, noun)} could be answered ({listed}).")
    say(f"{name}{num_failed:,} of {counted(num, noun)} could not be answered ({listed}){instead}.")
    return 0


def _apart(texts: Iterable[str], last: str | None) -> Iterator[str]:
    """Yield texts with an empty line between two of which one has line ends; `last` has been printed before them."""
    for text in texts:
        if last is not None and "\n" in f"{last}{text}":
            yield ""
        yield text
        last = text


@final
class _Noted:
    """Which answers have a note, for people, who see the answers alone."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, list[str]]] = {}

    def add(self, note: str | None, line: int | None, number: int) -> None:
        """Take the note of an answer to a line of a file, or to the input of this number."""
        if note:
            count, places = self._found.get(note, (0, []))
            places += [str(number if line is None else line)] if count < MAX_TOLD else []
            self._found[note] = (count + 1, places)

    def remarks(self, total: int, source: AbstractSource | None) -> Iterator[str]:
        """Yield a sentence for each note, with how many answers have it, and where the first of them are."""
        name, what = ("", "input") if source is None else (f"{source.name}: ", "line")
        for note, (count, places) in self._found.items():
            where = ", ".join(places) + (", ..." if count > len(places) else "")
            verb = "was" if count == 1 else "were"
            yield f"{name}{count:,} of {counted(total, 'input')} {verb} {note} ({what} {where})."


def _kept(source: AbstractSource | None, keep: Sequence[str], own: Iterable[str]) -> dict[str, int]:
    """Return the names under which columns of the file are printed -> their places in it.

    One that is called as something of an answer's own gets "kept_" before its name.
    """
    if source is None:
        return {}
    own = {LINE, ERROR, *own}
    found: dict[str, int] = {}
    for part in keep:
        wanted = [part] if part in source.columns else [name.strip() for name in part.split(",") if name.strip()]
        for name in wanted:
            column = existing(source, name)
            shown = column
            while shown in own:
                shown = f"kept_{shown}"
            found[shown] = source.columns.index(column)
    return found


def _predict_online(
    folder: Path,
    arguments: list[str],
    file: Path | None,
    options: Mapping[str, Any],
    named: Mapping[str, Any],
    shape: Shape,
    say: Say,
) -> int:
    """Answer with a model that has learned from a stream; a file's rows are read by column, other inputs as text."""
    from thalweg.online.classifier import OnlineClassifier
    from thalweg.online.learn import load_online
    from thalweg.online.roles import columns_in

    model = load_online(folder)
    is_classifier = isinstance(model, OnlineClassifier)
    require_read("classify" if is_classifier else "score", options, is_online=True)
    top = AnswerOptions(**options).top
    source = None if file is None else open_like({}, file, named, skip_bad_rows=True, once=True)
    if source is None:
        questions = _typed(arguments, str, say)
    else:
        given = {name: value for name, value in named.items() if value and name in NAMED}
        columns, notes = list(source.columns), list[str]()
        if source.kind != "text":
            columns, notes = columns_in(source.name, columns, model.kinds, given)
        for note in (*source.notes, *notes):
            say(note)
        questions = _rows(source, columns, model.label_column)
    key = "text" if source is None else "row"
    ranked = [f"{name}_{place}" for place in range(1, shape.top + 1) for name in ("label", "probability")]
    answerer = Answerer(
        lambda asked, _: [_online_answer(model, question, key, top) for question in asked],
        lambda answer: candidate_lines(answer, shape.top) if is_classifier else figure_lines(answer, (key,)),
        (key, "label", "top") if is_classifier else (key, "score"),
        (key, "label", "probability", *ranked) if is_classifier else (key, "score"),
        lambda answer: [_online_row(answer, shape.top)],
    )
    return _show(answerer, questions, source, shape, say)


def _rows(source: AbstractSource, columns: Sequence[str], label: str | None) -> Iterator[Question]:
    for row in source.all_rows():
        if isinstance(row, BadRow):
            yield Question(line=row.line, problem=row.reason)
        else:
            cells = dict(zip(columns, row.values, strict=True))
            cells.pop(label or "", None)  # what is to be answered is no input
            yield Question(cells["text"] if source.kind == "text" else cells, row.line, "", row.values)


def _online_answer(model: OnlineModel, question: Question, key: str, top: int) -> dict[str, Any]:
    from thalweg.online.classifier import OnlineClassifier

    answer: dict[str, Any] = {key: question.value}
    try:
        if question.problem:
            raise InputError(question.problem)
        if isinstance(model, OnlineClassifier):
            label, probabilities = model.predict(question.value)
            best = sorted(probabilities.items(), key=lambda pair: -pair[1])[:top]
            return answer | {"label": label, "top": [{"label": name, "probability": p} for name, p in best]}
        return answer | {"score": model.predict(question.value)}
    except InputError as error:
        keys = ("label", "top") if isinstance(model, OnlineClassifier) else ("score",)
        return answer | dict.fromkeys(keys) | {ERROR: str(error)}


def _online_row(answer: Mapping[str, Any], top: int) -> dict[str, Any]:
    row = dict(answer)
    candidates = row.pop("top", [])
    if candidates:
        row["probability"] = candidates[0]["probability"]
    return row | flat(candidates[:top], ("label", "probability"))


def evaluate_and_show(
    folder: Path,
    files: Sequence[str],
    named: Mapping[str, Any],
    say: Say,
    *,
    asked: Mapping[str, Any],
    skip_bad_rows: bool,
    report: Path | None,
    as_json: bool,
) -> int:
    """Measure a run on a file, or on several as one, print the metrics, and return the exit code.

    `named` says how the file is read, `asked` how its rows are answered and measured.
    """
    run = Run(folder)
    file = one_source(files, run.recipe.run.task) or ""
    source = open_like(vars(run.recipe.data), file, named, skip_bad_rows=skip_bad_rows, once=True)
    found = run.evaluate(source, skip_bad_rows=skip_bad_rows, report=report, **asked, **named)
    metrics, verdict = {"loss": found.loss, **found.metrics}, run.task.compared(found.metrics)
    if as_json:
        said = {"verdict": verdict} if verdict else {}
        print_json(finite({"run": str(folder), "metrics": metrics, **said, **to_json(found), **told_of_file(found)}))
    else:
        metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        width = max(map(len, metrics))
        places = max(len(f"{value:.4f}") for value in metrics.values())
        lines = [
            f"{name.replace('_', ' '):<{width}}  {value:>{places}.4f}  {brackets(found.intervals.get(name))}"
            for name, value in metrics.items()
        ]
        learned = f"{folder} was trained on {file}, or chosen by it: neither figures nor intervals are about new data."
        notes = [learned] if run.has_learned_from(file) else [*interval_notes(found), *_repeats(run, source, named)]
        notes += written_notes(found)
        print_lines([line.rstrip() for line in lines] + ([verdict] if verdict else []) + _class_lines(found) + notes)
        for note in found.notes:
            say(note)
    if report is not None:
        say(f"Report: {report}")
    return 0


def _class_lines(found: Evaluation) -> list[str]:
    """Return the figures of each class as the lines of a table."""
    lines = []
    for key, kind in (("spans", "type"), ("labels", "label"), ("tags", "tag")):
        rows = found.details.get(key, ())
        shown = [row for row in rows if row["support"] or row["given"]]
        if not shown:
            continue
        shown = sorted(shown, key=lambda row: -row["support"])[:MAX_CLASSES] if len(shown) > MAX_CLASSES else shown
        names = [one_line(row[kind], LONGEST_NAME) for row in shown]
        width = max(map(cell_len, (kind, *names)))
        lines += ["", f"{kind:<{width}}  precision  recall      f1  support"]
        lines += [
            f"{set_cell_size(name, width)}  {row['precision']:>9.4f}  {row['recall']:>6.4f}  {row['f1']:>6.4f}  "
            f"{row['support']:>7,}"
            for name, row in zip(names, shown, strict=True)
        ]
        if len(rows) > len(shown):
            lines.append(f"... {len(rows) - len(shown):,} more: --json has them all.")
    return [*lines, ""] if lines else []


def _repeats(run: Run, file: AbstractSource, named: Mapping[str, Any]) -> list[str]:
    """Return a sentence if rows of a file are not new to a run."""
    from thalweg.training.certified.new_texts import num_repeated

    number = num_repeated(run, file, named)
    if not number:
        return []
    rows = "1 row of the file repeats" if number == 1 else f"{number:,} rows of the file repeat"
    return [
        f"{rows} texts that {run.folder} was trained on or chosen by, so figures and intervals are not about new data "
        "alone."
    ]
