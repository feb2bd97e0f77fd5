"""The command line: arguments -> calls.

A command's work is loaded by its import path when the command really runs, so that every `--help` is quick.
"""

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from thalweg.cli.asking.flags import AnswerFlags, ScoringFlags
from thalweg.cli.complaints import misplaced, with_standard_input
from thalweg.cli.ending import code_of
from thalweg.cli.neighbors.commands import export, serve
from thalweg.cli.options import (
    ComparedOptions,
    DataOptions,
    FormatOptions,
    ModelOptions,
    ReadOptions,
    RunOptions,
    TrainingOptions,
    duration,
    folder,
    to_options,
    whole,
)
from thalweg.cli.output import Terminal, speaker
from thalweg.errors import InputError
from thalweg.names import load

EPILOGUE = "Exit codes: 0 done, 1 the work failed, 2 the command line or the data is wrong."

app = App(
    name="thalweg",
    help="Train neural networks on text, and measure how far they are from the global optimum.",
    help_epilogue=EPILOGUE,
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # which would end every signal with the code of Ctrl-C
)

_flattened = Parameter(name="*")
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Threads that spin while they wait make a loaded machine absurdly slow; this must be set before torch starts them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What torch's networking writes about a connection that is tried again, with a list of addresses in its code.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    def command(console: Terminal) -> object:
        given = with_standard_input(sys.argv[1:] if arguments is None else arguments)
        if wrong := misplaced(given, app):
            raise InputError(wrong)
        _require_one_process(given)
        return app(given, exit_on_error=False, print_error=False, console=Terminal(), error_console=console)

    sys.exit(code_of(command, app))


def _require_one_process(given: list[str]) -> None:
    """Refuse a command that does not share its work where a launcher has started several processes; one tells it."""
    name = "train --online" if given[:1] == ["train"] and "--online" in given else given[0] if given else ""
    is_shared = name in ("train", "compare") or not {"RANK", "WORLD_SIZE", "SLURM_STEP_ID"} & os.environ.keys()
    if is_shared or not name or {"--help", "-h", "--version"} & set(given):
        return
    launch = None
    with contextlib.suppress(InputError):  # half of an environment is left over from something else
        launch = load("thalweg.training.steps.launch:launch_of")(os.environ)
    if launch is not None:
        error = InputError(
            f"thalweg {name} works in one process, and {launch.num} were started; leave out torchrun or srun."
        )
        error.is_told = launch.rank > 0  # type: ignore[attr-defined]
        raise error


def _all(source: str | None, more: tuple[str, ...]) -> tuple[str, ...]:
    return () if source is None else (source, *more)


@app.command
def train(
    source: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    /,
    *more: str,
    run: Annotated[RunOptions | None, _flattened] = None,  # type: ignore[valid-type]
    data: Annotated[DataOptions | None, _flattened] = None,  # type: ignore[valid-type]
    model: Annotated[ModelOptions | None, _flattened] = None,  # type: ignore[valid-type]
    training: Annotated[TrainingOptions | None, _flattened] = None,  # type: ignore[valid-type]
    out: Annotated[Path, Parameter(converter=folder)] = Path("runs"),
    resume: Path | None = None,
    resume_from: Path | None = None,
    rank_timeout: Annotated[float, Parameter(converter=duration)] = 600.0,
    apply: str | None = None,
    overwrite: Flag = False,
    online: Flag = False,
    trust: Flag = False,
    fast: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Train a model on a file, a built-in set or a recipe.

    Without a file the built-in set of the task is used (docstrings, tokens, phrases, sunspots, manual, numbers). The
    task and the columns are detected automatically and printed. The same command again resumes an interrupted run.

    Args:
        source: CSV, TSV, JSONL, CoNLL, text, Parquet, Arrow or XLSX file, a zip of one or a folder; a built-in set; a
            recipe.toml; "-" with --online.
        more: Further files with the same columns, read after it; or the other language (train.en train.de).
        run: .
        data: .
        model: .
        training: .
        out: Folder that holds runs.
        resume: Resume the unfinished run in this folder.
        resume_from: Resume a run from this checkpoint, such as runs/x/checkpoints/step-00000012; later ones go.
        rank_timeout: With several processes (torchrun): time after which one that does not answer has hung (10m).
        apply: Repair a run: its recipe with what a finding changes, such as runs/x/diagnosis.json#1 (or #1,#2), in a
            new run.
        overwrite: Replace a run of the same name.
        online: Learn from a stream: predict each row, then learn from it.
        trust: Import the optimizer that a recipe or run of somebody else names by an import path, which runs code. One
            that --optimizer names needs no trust.
        fast: Smoke test: two steps of everything.
        json: Print the summary as one JSON object on standard output.
        quiet: Print nothing but errors.
    """
    options, console = to_options(_all(source, more), run, data, model, training), Terminal(stderr=True)
    say = speaker(console, quiet)
    if apply is not None:
        if online or overwrite or resume is not None or resume_from is not None:
            raise InputError(
                "--apply trains a new run beside the old one; leave out --overwrite, --resume and --online."
            )
        options = load("thalweg.diagnosis.applying:applied")(apply, options, trust=trust)
    if online:
        if resume is not None or resume_from is not None:
            raise InputError("--resume is for runs, and a stream goes on by the same command; leave --resume out.")
        return load("thalweg.cli.stream:learn")(options, out, overwrite=overwrite, as_json=json, say=say)
    going_on = load("thalweg.training.folder.resuming:resumption")(resume, resume_from)
    request = load("thalweg.training.session.plan:Request")(options, out, overwrite, *going_on, fast, trust=trust)
    return load("thalweg.cli.training:train_and_show")(request, console, say, rank_timeout, as_json=json, quiet=quiet)


@app.command
def compare(
    sources: list[str] | None = None,
    /,
    *,
    optimizers: str | None = None,
    vary: str | None = None,
    budget: Annotated[float | None, Parameter(converter=duration)] = None,
    steps: Annotated[int | None, Parameter(converter=whole)] = None,
    trials: Annotated[int | None, Parameter(converter=whole)] = None,
    seeds: Annotated[int | None, Parameter(converter=whole)] = None,
    target: str = "auto",
    scored_on: str | None = None,
    storage: str = "",
    run: Annotated[RunOptions | None, _flattened] = None,  # type: ignore[valid-type]
    data: Annotated[DataOptions | None, _flattened] = None,  # type: ignore[valid-type]
    model: Annotated[ModelOptions | None, _flattened] = None,  # type: ignore[valid-type]
    training: Annotated[ComparedOptions | None, _flattened] = None,  # type: ignore[valid-type]
    out: Annotated[Path, Parameter(converter=folder)] = Path("runs"),
    overwrite: Flag = False,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Compare optimizers, or values of any option, on your data under one budget.

    Each gets as many tuning trials as the others, then its best settings run from several seeds. Writes compare.json
    and a page with curves. Without a budget everything takes about three minutes. The same command again goes on where
    it was interrupted.

    Args:
        sources: Data files or built-in sets; several give performance profiles.
        optimizers: Optimizers, with commas; NAME:KEY=VALUE fixes a setting (adamw,adamw:weight_decay=0.1,soap).
        vary: Any other option and its values: head=softmax,vmf or skip=none,residual.
        budget: Seconds of training for each run (60s, 5m).
        steps: Steps of each run, in place of seconds.
        trials: Settings tried of each entrant before its final runs (8).
        seeds: Final runs of each entrant (3).
        target: Score to be reached; auto is what every run of the first entrant reaches.
        scored_on: Whose loss counts: valid (the validation examples), or train.
        storage: URL of an Optuna storage that several processes share; default: a file in the comparison's folder.
        run: .
        data: .
        model: .
        training: .
        out: Folder that holds runs.
        overwrite: Start over.
        json: Print rows and sentence as one JSON object on standard output.
        quiet: Print nothing but errors.
    """
    options, console = to_options((), run, data, model, training), Terminal(stderr=True)
    asked = {"optimizers": optimizers, "vary": vary, "seconds": budget, "steps": steps, "trials": trials}
    asked |= {"seeds": seeds, "target": target, "scored_on": scored_on, "storage": storage}
    asked |= {"out": out, "overwrite": overwrite}
    show = load("thalweg.cli.comparison:compare_and_show")
    say = speaker(console, quiet)
    return show(sources or ["docstrings"], options, asked, console, say, as_json=json, quiet=quiet)


@app.command
def predict(
    folder: Path,
    /,
    *inputs: Annotated[str, Parameter(allow_leading_hyphen=True)],
    file: Path | None = None,
    data: Annotated[ReadOptions | None, _flattened] = None,  # type: ignore[valid-type]
    keep: Annotated[list[str] | None, Parameter(negative=())] = None,
    answers: Annotated[AnswerFlags | None, _flattened] = None,  # type: ignore[valid-type]
    json: Flag = False,
    csv: Flag = False,
) -> int:
    """Predict on new inputs.

    Inputs are the arguments, the lines or rows of a file, or the lines of standard input. Each gets one answer, in
    order; what cannot be answered has null in its place, with its line and the reason. The exit code is 0 as long as
    something could be answered, and a sentence on standard error counts the others.

    Args:
        folder: The run's folder, such as runs/docstrings.
        inputs: Texts; for a pair, two texts with a tab between them; for a forecast, numbers with commas between them
            (rows of several columns with semicolons between them).
        file: File with inputs: lines of text, or CSV, TSV or JSONL with the run's column names; "-" is standard input,
            read as a file.
        data: .
        keep: Columns of the file to print with each answer, such as an id; several with commas.
        answers: .
        json: Print one JSON object per line; of a file or standard input with its "line".
        csv: Print a table as CSV: a row for each answer, or for each step of a forecast.
    """
    options = {name: value for name, value in vars(answers).items() if value is not None} if answers else {}
    if json and csv:
        raise InputError("Give --json or --csv, not both.")
    named = dict(to_options((), data))
    form = "json" if json else "csv" if csv else "lines"
    shape = load("thalweg.cli.answers:Shape")(form, tuple(keep or ()), skip=bool(named.pop("skip_bad_rows", False)))
    show = load("thalweg.cli.answers:predict_and_show")
    say = speaker(Terminal(stderr=True))
    return show(folder, list(inputs), file, options, named, shape, say)


@app.command
def evaluate(
    folder: Path,
    file: str,
    /,
    *more: str,
    data: Annotated[ReadOptions | None, _flattened] = None,  # type: ignore[valid-type]
    scoring: Annotated[ScoringFlags | None, _flattened] = None,  # type: ignore[valid-type]
    report: Path | None = None,
    json: Flag = False,
) -> int:
    """Evaluate a run on a file with the columns of its training data, or others that are named.

    Says what was left out of the file, and gives precision, recall and F1 of each label.

    Args:
        folder: The run's folder, such as runs/docstrings.
        file: The held-out file; "-" is standard input.
        more: Further files, as for train; or the other language (test.en test.de).
        data: .
        scoring: .
        report: HTML file for a page about this file, with what the report of a training says of its validation data.
        json: Print metrics, intervals, figures of each label, and what was left out as one JSON object.
    """
    named = dict(to_options((), data))
    scored = {name: value for name, value in vars(scoring).items() if value is not None} if scoring else {}
    asked: dict[str, Any] = {"asked": scored}
    asked |= {"skip_bad_rows": bool(named.pop("skip_bad_rows", False)), "report": report, "as_json": json}
    say = speaker(Terminal(stderr=True))
    show = load("thalweg.cli.answers:evaluate_and_show")
    return show(folder, _all(file, more), named, say, **asked)


@app.command
def certify(
    folder: Path,
    /,
    *,
    seconds: Annotated[float, Parameter(converter=duration)] = 20.0,
    polish: bool = False,
    test: Path | None = None,
    data: Annotated[FormatOptions | None, _flattened] = None,  # type: ignore[valid-type]
    risk: Flag = False,
    trust: Flag = False,
    report: bool = True,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Bound a run's distance from the global optimum of its configuration, with a proof.

    The training loss of the saved weights is compared with lower bounds on the best possible one: floors of the data,
    the best head on these features, the best linear model of any width, and more, where they apply. Writes
    certificate.json and adds a plot to the report.

    Args:
        folder: The run's folder, such as runs/docstrings.
        seconds: Time budget for the whole command, but for --test and --risk.
        polish: Put the best head for these features into the run; the previous weights are kept.
        data: .
        test: Held-out file that nothing was chosen by, for the error on new data; else the validation examples.
        risk: Also train on half of the rows and bound the error on new data by the other half. That takes about as long
            as training the run did, and is not within --seconds.
        trust: With --risk: import the optimizer that the run's recipe names by an import path, which runs code.
        report: Regenerate the report, with a plot of the bounds.
        json: Print the interval as one JSON object on standard output.
        quiet: Print nothing but errors.
    """
    asked: dict[str, Any] = {"begin": time.perf_counter(), "polish": polish, "report": report, "as_json": json}
    asked |= {"quiet": quiet, "test": test, "risk": risk, "trust": trust, "reading": dict(to_options((), data))}
    if asked["reading"] and test is None:
        raise InputError("--kind and --header say how a test file is read; give one with --test.")
    show = load("thalweg.cli.certificates:certify_and_show")
    return show(folder, seconds, speaker(Terminal(stderr=True), quiet), **asked)


@app.command
def diagnose(
    folder: Path,
    /,
    *,
    seconds: Annotated[float, Parameter(converter=duration)] = 30.0,
    landscape: Flag = False,
    between: Path | None = None,
    report: bool = True,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Find what is wrong with a run, and what to change.

    Its history, weights and data are measured; each finding comes with its evidence and a repair, the worst first.
    Writes diagnosis.json and a page with the pictures behind the findings. A repair that is a change of options is
    tried by thalweg train --apply. Exit code 0 whether something was found or not.

    Args:
        folder: The run's folder, such as runs/docstrings.
        seconds: Time budget, but for --landscape and --between.
        landscape: Also draw the loss around the weights, with the way that training took.
        between: Also measure the loss on the line from this run's weights to those of another run, here.
        report: Write the page.
        json: Print the findings as one JSON object on standard output.
        quiet: Print nothing but errors.
    """
    console = Terminal(stderr=True)
    asked = {"seconds": seconds, "landscape": landscape, "between": between}
    return load("thalweg.cli.diagnosis:diagnose_and_show")(
        folder, asked, console, speaker(console, quiet), report=report, as_json=json, quiet=quiet
    )


@app.command
def check(file: Path, /, *, run: Path | None = None, json: bool = False) -> int:
    """Verify a certificate with numpy alone; the last line says whether its bound is verified.

    Without --run that is the arithmetic of the file. With it, the run's inputs, targets, weights, penalty and loss are
    computed again and take the place of the file's, so that a certificate of another problem is refused. Exit code: 0
    if the level that carries the bound is verified, 1 if it is not or no bound is claimed, 2 if the file cannot be
    read.

    Args:
        file: The certificate, such as runs/docstrings/certificate.json.
        run: The run that it must be about.
        json: Print what was verified as one JSON object on standard output.
    """
    return load("thalweg.cli.inspection:check_and_show")(file, run, as_json=json)


@app.command
def verify(folder: Path, /, *, json: Flag = False) -> int:
    """Check every file of a run or of a stream's model, and repair what can be repaired.

    Each file is compared with the checksum of what was written. A change that was interrupted is completed, and what
    killed processes left unfinished is removed. Exit code: 0 if everything is whole, 1 if a file is damaged.

    Args:
        folder: The folder, such as runs/docstrings.
        json: Print what was found as one JSON object on standard output.
    """
    return load("thalweg.cli.inspection:verify_and_show")(folder, as_json=json)


@app.command(name="data")
def look(
    source: str,
    /,
    *more: str,
    run: Annotated[RunOptions | None, _flattened] = None,  # type: ignore[valid-type]
    data: Annotated[DataOptions | None, _flattened] = None,  # type: ignore[valid-type]
    json: Flag = False,
) -> int:
    """Inspect a data file before training.

    Shows the columns and the choice made, counts, labels and lengths, duplicates across the split, conflicting labels,
    empty and over-long texts, and what the model will see.

    Args:
        source: The file, or the name of a built-in set.
        more: Further files, as for train.
        run: .
        data: .
        json: Print everything as one JSON object on standard output.
    """
    return load("thalweg.cli.inspection:inspect_and_show")(to_options(_all(source, more), run, data), as_json=json)


app.command(export)
app.command(serve)


@app.command
def completion(shell: Annotated[str, Parameter(help="bash, zsh or fish.")], /) -> int:
    """Print a script for bash, zsh or fish that completes commands, options and files (docs/runs.md: where to)."""
    return load("thalweg.cli.neighbors.completion:print_script")(app, shell)
