"""From a question to its answer: every run made or waited for, and written down in the comparison's folder."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, final

from thalweg.comparison.contest import (
    Contest,
    checksums,
    data_names,
    has_other_losses,
    metric_of,
    open_contest,
    unit_of,
)
from thalweg.comparison.entrants import Entrant, common, read_entrants, read_vary
from thalweg.comparison.ledger import Ledger
from thalweg.comparison.measured import RECORD_FORM
from thalweg.comparison.question import Question
from thalweg.comparison.results import html_of, pairs_of, profiles_of, put_times, rows_of, sentence_of, target_of
from thalweg.comparison.rounds import Rounds, Watch, too_short
from thalweg.comparison.running import Runner
from thalweg.comparison.spaces import DEFAULT_OPTIMIZERS
from thalweg.comparison.studies import STUDIES
from thalweg.errors import InputError, counted
from thalweg.report.comparison.page import render
from thalweg.storage.files import leftovers, make_folder, remove, remove_folder, write_file
from thalweg.storage.forms import read_json, record, text
from thalweg.storage.lock import HeldError, Lock
from thalweg.training.integrity import run_files
from thalweg.training.integrity.history import finite
from thalweg.training.integrity.placing import folder_name, renamed
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.optimizer import known_defaults
from thalweg.training.steps.signals import Signals

VERSION: Final = 1
QUESTION, RESULT, PAGE, STUDY = "question.json", "compare.json", "compare.html", "study.log"
_REMOVE: Final = "remove its folder, or choose another --name"
VARIED_WITH: Final = "adamw"  # the optimizer where another option is varied and none is named
Say = Callable[[str], None]


@final
class Comparison:
    """A finished comparison in its folder.

    Args:
        folder: such as `runs/compare-reviews`.
        result: what `compare.json` says.
    """

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder, self.result = folder, result

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row for each entrant on each data set, the fastest to the target first."""
        return self.result["rows"]

    @property
    def sentence(self) -> str:
        """What it comes to, with its uncertainty."""
        return self.result["sentence"]

    @property
    def has_failed(self) -> bool:
        """Whether nothing could be compared on any data set."""
        return not any(entrant["seeds"] for data in self.result["data"] for entrant in data["entrants"])

    def __repr__(self) -> str:
        return f"Comparison({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a row for each entrant, and the sentence."""
        return html_of(str(self.folder), self.rows, self.sentence)


def ask(
    sources: Iterable[str | Path],
    options: Options,
    *,
    optimizers: str | Iterable[str] | None = None,
    vary: str | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    target: float | None = None,
    scored_on: str | None = None,
    storage: str = "",
    out: str | Path = "runs",
    name: str = "",
    overwrite: bool = False,
) -> Question:
    """Return what is asked, every name in it checked; what was not said is as the data's own study or usual."""
    texts = tuple(map(str, sources))
    if optimizers is not None and vary is not None:
        raise InputError("Give --optimizers or --vary, not both: one thing is varied at a time.")
    study = STUDIES.get(texts[0]) if len(texts) == 1 and optimizers is None and vary is None else None
    if scored_on not in (None, "valid", "train"):
        raise InputError(f"--scored-on must be valid or train; got {scored_on!r}.")
    for option in options:
        if OPTIONS[option].compared == "budget":
            raise InputError(
                f"--{option.replace('_', '-')} is not for comparisons, where --budget or --steps ends each run."
            )
    if study is not None:
        options = Options({**study.options, **options})
        steps = study.steps if steps is None and seconds is None else steps
    entrants = _entrants(study.optimizers if study is not None else optimizers, vary)
    common(options, entrants)
    if "optimizer" not in {*options, entrants[0].option}:  # else a model's own solver would leave no rate to tune
        options = options.with_(optimizer=VARIED_WITH)
    for entrant in entrants:
        if OPTIONS[entrant.option].compared in ("fixed", "budget"):
            raise InputError(
                f"--vary {entrant.option} is not possible: the data are read once for all, and the budget ends runs."
            )
        known_defaults(options.with_(entrant.options()))
    usual = (8, 3, "valid") if study is None else (study.trials, study.num_seeds, study.scored_on)
    given = (trials, seeds, scored_on)
    chosen: Any = [theirs if own is None else own for own, theirs in zip(given, usual, strict=True)]
    return Question(
        sources=texts,
        options=options,
        entrants=entrants,
        seconds=seconds,
        steps=steps,
        trials=chosen[0],
        num_seeds=chosen[1],
        scored_on=chosen[2],
        target=target,
        storage=storage,
        out=Path(out),
        name=name,
        overwrite=overwrite,
    )


def _entrants(optimizers: str | Iterable[str] | None, vary: str | None) -> tuple[Entrant, ...]:
    if vary is not None:
        return read_vary(vary)
    return read_entrants("optimizer", ",".join(DEFAULT_OPTIMIZERS) if optimizers is None else optimizers)


def answer(question: Question, say: Say, watch: Watch) -> Comparison:
    """Make every run that is not made yet, and write down what comes out.

    Args:
        question: what is asked.
        say: takes sentences about what was chosen and is being done.
        watch: takes events (see `thalweg.comparison.rounds.Rounds`).

    Raises:
        InputError: for data that cannot be read or compared on, where there are no others, and a storage that cannot be
            used.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with the number of the signal; what was done is kept, and the same
            question goes on.
    """
    sums = checksums(question)
    digest, named = question.digest(sums), data_names(question.sources)
    for note in renamed(question.name):
        say(note)
    name = folder_name(question.name) if question.name else "-".join(list(named.values())[:3])
    with _alone(question.out / f"compare-{name}"):
        folder = _find_folder(question, name, digest, say)
    ledger = Ledger(question.storage or str(folder / STUDY), f"compare-{name}", digest, RECORD_FORM)
    if question.overwrite and question.storage:
        ledger.forget()
    found: list[dict[str, Any]] = []
    errors: list[InputError] = []
    with Signals() as signals:
        signals.interrupts = True
        try:
            for source, short in named.items():
                try:
                    found.append(_on_one(question, source, short, folder, ledger, say, watch))
                except InputError as error:
                    if len(named) == 1:
                        raise
                    errors.append(error)
                    say(f"{source} is left out: {error}")
                    found.append(_failed(source, short, str(error)))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(signals.received) from None
    if len(errors) == len(found):
        raise errors[0]
    result = _finish(found)
    content = run_files.json_bytes(result)
    result = finite(result)
    page = render(result).encode("utf-8", "replace")
    with _alone(folder):
        for left in leftovers(folder):  # nobody else writes here now
            remove(left)
        write_file(folder / PAGE, page)
        write_file(folder / RESULT, content)  # last: with it the comparison is done
    return Comparison(folder, result)


def _alone(folder: Path) -> Lock:
    """Return the right to change a comparison's folder for a moment, against other processes of the comparison."""
    try:
        make_folder(folder.parent)
        return Lock(folder, "compared", waits=True)
    except OSError as error:
        raise InputError(f"The comparison cannot be written to {folder} ({error.strerror}); give --out.") from None


def _find_folder(question: Question, name: str, digest: str, say: Say) -> Path:
    """Return the folder of the same question, which goes on, or a new one with the question in it."""
    number, folder = 1, question.out / f"compare-{name}"
    while folder.exists():
        known = folder / QUESTION
        asked = read_json(known, record(digest=text()), otherwise=_REMOVE)["digest"] if known.is_file() else None
        if asked is None and folder.is_dir() and set(folder.iterdir()) <= set(leftovers(folder)):
            break  # a comparison ended here before it had written anything
        if question.overwrite:
            if asked is None:
                raise InputError(f"{folder} is no comparison, so --overwrite leaves it alone; choose a --name.")
            _require_idle(question, folder)
            remove_folder(folder)
            break
        if asked == digest:
            if not (folder / RESULT).is_file():
                say(f"Going on with {folder} (--overwrite to start over).")
            return folder
        number += 1
        folder = question.out / f"compare-{name}-{number}"
    if number > 1:
        say(f"Another comparison is kept; this one is {folder} (--overwrite to replace the first).")
    try:
        make_folder(folder)
    except OSError as error:
        raise InputError(f"The comparison cannot be written to {folder} ({error.strerror}); give --out.") from None
    asked = {
        "digest": digest,
        "sources": list(question.sources),
        "options": dict(question.options),
        "entrants": [{"name": entrant.name, "fixed": dict(entrant.fixed)} for entrant in question.entrants],
        "seconds": question.seconds,
        "steps": question.steps,
        "scored_on": question.scored_on,
    }
    write_file(folder / QUESTION, run_files.json_bytes(asked))
    return folder


def _require_idle(question: Question, folder: Path) -> None:
    """Raise a HeldError where another process is at a run of a comparison that is to be replaced."""
    storage = question.storage or str(folder / STUDY)
    if not question.storage and not (folder / STUDY).is_file():
        return
    try:
        workers = Ledger(storage, folder.name, "").workers()
    except InputError:  # it cannot be used, and so by nobody
        return
    if workers:
        raise HeldError(
            f"{folder} is being compared by process {', '.join(sorted(one.rpartition(':')[2] for one in workers))}; "
            "wait until that ends, or choose another --name."
        )


def _on_one(
    question: Question, source: str, name: str, folder: Path, ledger: Ledger, say: Say, watch: Watch
) -> dict[str, Any]:
    """Return what `compare.json` says of one data set."""
    contest = open_contest(question, source, name, say)
    reference = next(iter(contest.recipes.values()))
    task, _ = contest.read(reference)
    metric, vary = metric_of(task), question.entrants[0].option
    scored_by = "metric" if has_other_losses(vary, task) and metric[0] != "loss" else "loss"
    by = metric if scored_by == "metric" else ("loss", "lower")
    unit = unit_of(contest)
    runner = Runner(contest, folder / "runs" / name, question.scored_on, scored_by, metric, unit)
    rounds = Rounds(question, contest, runner.train, runner.pace, ledger, by, watch)
    if scored_by == "metric":
        contest.notes.append(
            f"Losses with another {vary.replace('_', ' ')} are numbers of another kind, so the entrants are compared "
            f"by {metric[0].replace('_', ' ')}."
        )
    for note in contest.notes:
        say(note)
    rounds.measure_paces()
    _announce(question, rounds, name, say, watch)
    rounds.tune()
    rounds.decide()
    entrants = list(rounds.results())
    if not any(entrant["seeds"] for entrant in entrants):
        raise too_short(rounds.failed)
    for entrant in entrants:
        if entrant["edge"]:
            beyond = "lower" if entrant["edge"] == "lowest" else "higher"
            contest.notes.append(
                f"The best learning rate of {entrant['name']} is the {entrant['edge']} of the "
                f"{len(entrant['trials'])} tried: a {beyond} one may be better still."
            )
    target, origin = target_of(entrants, by, question.target)
    for entrant in entrants:
        for seed in entrant["seeds"]:
            put_times(seed, target, by)
    limit = f"{rounds.seconds:g} s" if question.steps is None else counted(question.steps, "step")
    data: dict[str, Any] = {
        "name": name,
        "described": contest.described,
        "task": task.name,
        "model": reference.model.model,
        "metric": metric[0],
        "better": metric[1],
        "scored_by": scored_by,
        "scored_on": question.scored_on,
        "target": target,
        "target_from": origin,
        "budget": {"seconds": rounds.seconds} if question.steps is None else {"steps": question.steps},
        "settings": _settings(contest, question),
        "notes": contest.notes,
        "evaluation": f"One evaluation is a gradient of {counted(unit, 'example')}.",
        "vary": vary,
        "entrants": entrants,
        "failed": "",
    }
    return data | {"pairs": pairs_of(data, by, limit)}


def _announce(question: Question, rounds: Rounds, name: str, say: Say, watch: Watch) -> None:
    """Say how many runs of how long there are, before they begin."""
    for entrant, why in rounds.failed.items():
        say(f"{entrant} cannot take part: {why}")
    number = rounds.num_runs()
    if not number:
        raise too_short(rounds.failed)
    each = f"{rounds.seconds:g} s of training" if question.steps is None else counted(question.steps, "step")
    tried = [
        (entrant.name, len(rounds.points(entrant)))
        for entrant in question.entrants
        if entrant.name not in rounds.failed
    ]
    tuned = [entrant for entrant, trials in tried if trials]
    untuned = [entrant for entrant, trials in tried if not trials]
    parts = []
    if tuned:
        parts.append(f"{counted(question.trials, 'trial')} of {', '.join(tuned)}")
    if untuned and question.trials:
        parts.append(f"nothing to tune of {', '.join(untuned)}")
    parts.append(f"then {counted(question.num_seeds, 'seed')} of each")
    say(f"On {name}: {counted(number, 'run')} of {each}: {'; '.join(parts)}.")
    seconds = None if question.steps is not None else rounds.seconds
    watch({"event": "plan", "data": name, "runs": number, "seconds": seconds, "steps": question.steps})


def _settings(contest: Contest, question: Question) -> dict[str, Any]:
    """Return the options that all entrants have in common, as plain values."""
    recipes = [recipe.values() for recipe in contest.recipes.values()]
    left_out = {"name", "seed", "steps", "epochs", "time", "patience", "select", "refit", "certify"}
    left_out |= {"checkpoint_every", "keep"}
    shared = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in recipes[0].items()
        if key not in left_out and all(other[key] == value for other in recipes)
    }
    return shared | {"seeds": question.seeds, "tuning_seed": question.tuning_seed}


def _failed(source: str, name: str, why: str) -> dict[str, Any]:
    empty = dict.fromkeys(("task", "model", "metric", "better", "scored_by", "scored_on", "vary", "evaluation"), "")
    return {
        "name": name, "described": source, **empty, "target": None, "target_from": "", "budget": {}, "settings": {},
        "notes": [], "entrants": [], "pairs": [], "failed": why,
    }  # fmt: skip


def _finish(found: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [row for data in found if not data["failed"] for row in rows_of(data)]
    sentences = []
    for data in found:
        data["sentence"] = sentence_of(data, rows)
        sentences.append(data["sentence"])
    return {
        "version": VERSION,
        "data": found,
        "profiles": profiles_of(found, rows),
        "rows": rows,
        "sentence": " ".join(sentences),
    }


def compare(
    *sources: str | Path,
    optimizers: str | Iterable[str] | None = None,
    vary: str | None = None,
    budget: float | None = None,
    steps: int | None = None,
    trials: int | None = None,
    seeds: int | None = None,
    target: float | None = None,
    scored_on: str | None = None,
    storage: str = "",
    out: str | Path = "runs",
    name: str = "",
    overwrite: bool = False,
    say: Say = lambda sentence: None,  # noqa: ARG005
    watch: Watch = lambda event: None,  # noqa: ARG005
    **options: Any,
) -> Comparison:
    """Train the same model by several optimizers under one budget, each tuned as much as the others.

    Args:
        *sources: data files, or names of built-in sets; with several, performance profiles are drawn over them.
        optimizers: those that are compared, such as `"adamw,soap"` or `["adamw", "adamw:weight_decay=0.1"]`.
        vary: any other option and its values in place of optimizers, such as `"skip=none,residual"`.
        budget: seconds of training that each run has, > 0. Neither these nor steps: all together take three minutes.
        steps: steps of each run in place of seconds, >= 1.
        trials: settings tried of each entrant, >= 0 (8).
        seeds: final runs of each entrant, >= 1 (3).
        target: score to be reached; None: what every run of the first entrant reaches.
        scored_on: "valid" (the usual), or "train": the loss on the examples that are trained on.
        storage: URL of an Optuna storage, which other processes may share; "": a file in the comparison's folder.
        out: folder that holds runs.
        name: of the comparison.
        overwrite: start over in place of going on.
        say: takes the sentences about what was chosen and is being done.
        watch: takes an event at the beginning and the end of each run, and after each step.
        **options: options of training that are the same for all (`model="gru"`, `batch_size=32` ...).

    Returns:
        The comparison. Its `rows` and its `sentence` say how it ended.

    Raises:
        InputError: for anything in data, entrants, options or storage that cannot be used.

    Example:
        >>> few = {"steps": 2, "trials": 0, "seeds": 2, "out": getfixture("tmp_path")}
        >>> [row["seeds"] for row in compare("docstrings", optimizers="adamw,sgd", **few).rows]
        [2, 2]

    Source: Dahl et al. (2023), Benchmarking Neural Network Training Algorithms; Sivaprasad et al. (2020), Optimizer
    Benchmarking Needs to Account for Hyperparameter Tuning.

    When not to use: to find the best model for the data (train several, and look at the validation figures).
    """
    texts = [optimizers] if isinstance(optimizers, str) else optimizers
    given = {"seconds": budget, "steps": steps, "trials": trials, "seeds": seeds, "target": target}
    where: dict[str, Any] = {"storage": storage, "out": out, "name": name, "overwrite": overwrite}
    question = ask(
        sources or ("docstrings",), Options(options), optimizers=texts, vary=vary, scored_on=scored_on, **given, **where
    )
    return answer(question, say, watch)
