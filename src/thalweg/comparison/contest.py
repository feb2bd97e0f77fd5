"""The data of a comparison, read once, and the complete recipe of each entrant on them: equal wherever it must be."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

from thalweg import names
from thalweg.comparison.entrants import Entrant
from thalweg.comparison.question import Question
from thalweg.comparison.spaces import Space, space_of
from thalweg.data.containers.places import short_name
from thalweg.errors import InputError
from thalweg.optim.construct import default_learning_rate
from thalweg.storage.files import sum_of_file
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder.opening import settings_of, skipped_rows
from thalweg.training.integrity.placing import run_name
from thalweg.training.recipe.complete import complete, without_effect
from thalweg.training.recipe.defaults import sees_all_data
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session import automatic, sizing
from thalweg.training.session.optimizer import known_defaults
from thalweg.training.session.reading import Opened, open_data, read_examples


@final
@dataclasses.dataclass(frozen=True)
class Contest:
    """One data set with the recipes of those that are compared on it.

    Args:
        name: of the data, which no other data of the comparison have.
        described: what it is, in words.
        recipes: of each entrant by its name, complete.
        spaces: what is tuned of each.
        failed: why an entrant cannot take part, by its name.
        notes: sentences about what was made equal.
        opened: the data.
        examples: what has been read, by the part of a recipe that decides it.
        given: the options that each recipe was made from.
    """

    name: str
    described: str
    recipes: dict[str, Recipe]
    spaces: dict[str, Space]
    failed: dict[str, str]
    notes: list[str]
    opened: Opened
    examples: dict[str, tuple[AbstractTask, Prepared]] = dataclasses.field(default_factory=dict)
    given: dict[str, Options] = dataclasses.field(default_factory=dict)

    def read(self, recipe: Recipe) -> tuple[AbstractTask, Prepared]:
        """Return task and examples of a recipe; recipes that read the same get the same objects."""
        key = repr(settings_of(recipe, {}))
        if key not in self.examples:
            opened = self.opened
            self.examples[key] = read_examples(opened.source, opened.valid, recipe, opened.choice.plain())
        return self.examples[key]

    def recipe(self, entrant: Entrant, settings: Mapping[str, Any], seed: int, steps: int) -> Recipe:
        """Return the recipe of one run."""
        base = self.recipes[entrant.name]
        values = dict(settings)
        own = {name: value for name, value in values.items() if name in OPTIONS}
        extra = {name: value for name, value in values.items() if name not in OPTIONS}
        if extra:
            own["optimizer_options"] = {**base.training.optimizer_options, **extra}
        limits = {"steps": steps, "epochs": 0.0, "time": 0.0, "patience": 0, "select": "none", "refit": False}
        recipe = base.with_(**own, seed=seed, **limits)
        if recipe.training.optimizer != names.AUTOMATIC:
            return recipe
        equal = {key: value for key, value in recipe.values().items() if _is_equal(key) or not _is_of_training(key)}
        given = self.given[entrant.name].with_({**equal, **limits, "seed": seed})
        task, prepared = self.read(recipe)
        return automatic.resolve(recipe, given, task, prepared, say=[].append)


def open_contest(question: Question, source: str, name: str, say: Callable[[str], None]) -> Contest:
    """Read one data set and complete the recipe of every entrant on it.

    An InputError tells of data that cannot be read, or that no entrant can take part.
    """
    first = question.entrants[0]
    if question.options.get("start_from"):
        raise InputError("A comparison starts every run from its own initial weights; leave --start-from out.")
    opened = open_data(question.options.with_(source=source).with_(first.options()), say)
    for note in opened.notes():
        say(note)
    described = f"the built-in set '{source}'" if opened.source.kind == "sample" else short_name(source)
    contest = Contest(name, described, {}, {}, {}, [], opened)
    varied = {option for option in first.options() if option not in question.options}
    decided = Options({key: value for key, value in opened.decided.items() if key not in varied}).with_(name=name)
    for entrant in question.entrants:
        try:
            options = decided.with_(_joined(decided, entrant))
            contest.recipes[entrant.name] = complete(options, known_defaults(options))
            contest.given[entrant.name] = options
        except InputError as error:
            contest.failed[entrant.name] = str(error)
    if not contest.recipes:
        raise InputError(next(iter(contest.failed.values())))
    reference = next(iter(contest.recipes.values()))
    for note in without_effect(decided, known_defaults(decided.with_(optimizer=reference.training.optimizer))):
        say(note)
    task, prepared = contest.read(reference)
    for note in (*skipped_rows(opened.source, opened.valid), *prepared.notes):
        say(note)
    if first.option == "optimizer":
        _make_equal(contest, question, task, prepared)
    for entrant in question.entrants:
        if entrant.name in contest.recipes:
            contest.spaces[entrant.name] = _space(contest.recipes[entrant.name], {*question.options, *entrant.fixed})
    return contest


def _joined(decided: Options, entrant: Entrant) -> dict[str, Any]:
    """Return an entrant's options; arguments of the optimizer go beside the common ones.

    Options of continuous outputs are for those heads that have them, where heads are compared.
    """
    options = entrant.options()
    if options.get("head") in ("softmax", names.CHAIN_HEAD):
        options |= {name: None for name in decided if OPTIONS[name].continuous and name not in entrant.fixed}
    for name in ("optimizer_options", "schedule_options"):
        if name in options and name in decided:
            options[name] = {**decided[name], **options[name]}
    return options


def _make_equal(contest: Contest, question: Question, task: AbstractTask, prepared: Prepared) -> None:
    """Give all optimizers the same function to minimize: model, data, penalty, dropout.

    What one of them needs, all get: without dropout where one looks at curvature, with a penalty where one must have
    it. Its batch is each optimizer's own.
    """
    recipes, given = contest.recipes, question.options
    reference = next(iter(recipes.values()))
    shared = {
        name: value
        for name, value in reference.values().items()
        if OPTIONS[name].section in ("data", "model") or _is_equal(name)
    }
    shared |= {name: value for name, value in given.items() if _is_equal(name)}
    shared["carry"] = min(recipe.data.carry for recipe in recipes.values())
    whole = [name for name, recipe in recipes.items() if sees_all_data(recipe.values())]
    solvers = [name for name, recipe in recipes.items() if recipe.training.optimizer in names.SOLVERS]
    if solvers:
        suited = sizing.for_solver(recipes[solvers[0]], given, task, prepared)
        shared |= {"l2": suited.training.l2, "width": suited.model.width}
    elif whole:
        shared |= {"l2": recipes[whole[0]].training.l2}
    model = reference.model
    if names.model_spec(reference.run.task, model.model, freeze=model.freeze).layout == "features":
        shared["l2"] = sizing.for_linear_tagger(reference, given, prepared).training.l2
    if (whole or solvers) and "dropout" not in given:
        shared["dropout"] = 0.0
    if "precision" not in given:
        shared["precision"] = "auto"
    for entrant in question.entrants:
        if entrant.name in recipes:
            own = {name: value for name, value in shared.items() if name not in entrant.fixed}
            recipes[entrant.name] = recipes[entrant.name].with_(**own)
    if whole or solvers:
        contest.notes.append(
            f"{_listed([*whole, *solvers])} {'takes' if len(whole + solvers) == 1 else 'take'} all data in every step, "
            f"so for all entrants dropout is {shared['dropout']:g} and the penalty --l2 is {shared['l2']:g}; batch "
            "sizes are each one's own."
        )


def _is_equal(name: str) -> bool:
    return OPTIONS[name].compared == "equal"


def _is_of_training(name: str) -> bool:
    return OPTIONS[name].section == "training"


def _space(recipe: Recipe, fixed: set[str]) -> Space:
    training = recipe.training
    default = training.lr
    if training.optimizer not in names.METHODS and training.optimizer not in names.SOLVERS:
        default = recipe.training.lr if "lr" in fixed else _default_lr(training.optimizer, training.lr)
    space = space_of(recipe.values(), default)
    return {name: one for name, one in space.items() if name not in fixed and name not in training.optimizer_options}


def _default_lr(optimizer: str, otherwise: float) -> float:
    try:
        return default_learning_rate(optimizer)
    except InputError:  # neither torch.optim's nor of an import path
        return otherwise


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def has_other_losses(option: str, task: AbstractTask) -> bool:
    """Whether losses with two values of an option cannot be compared, so that the metric has to be."""
    writes = "writes" in names.task_spec(task.name).traits
    when = OPTIONS[option].other_losses
    return when == "always" or (writes and when == "of texts")


def metric_of(task: AbstractTask) -> tuple[str, str]:
    """Return the metric that is shown beside the loss, and its better end; it can be compared between any two models.

    It is what training selects weights by; of tasks that select by the loss it is one that is no other form of it.
    """
    name, better = task.selects_by
    if name == "loss":
        for other in ("bits_per_byte", "token_accuracy"):
            if other in task.explanations:
                return other, task.explanations[other][0]
    return name, better


def unit_of(contest: Contest) -> int:
    """Return how many examples' gradient counts as one evaluation: those of the smallest step of any entrant."""
    sizes = []
    for recipe in contest.recipes.values():
        batch, rows = recipe.training.batch_size, len(contest.read(recipe)[1].train)
        sizes.append(min(rows, batch * recipe.training.accumulate) if batch else rows)
    return min(sizes)


def data_names(sources: tuple[str, ...]) -> dict[str, str]:
    """Return a short name for each source, numbered where two would have the same."""
    found: dict[str, str] = {}
    for source in sources:
        name, number = run_name(source), 1
        while name in found.values():
            number += 1
            name = f"{run_name(source)}-{number}"
        found[source] = name
    return found


def checksums(question: Question) -> dict[str, str]:
    """Return the checksum of every file that a question names: its data, and those of its options."""
    named = [*question.sources]
    for values in (question.options, *(entrant.fixed for entrant in question.entrants)):
        texts = [value for value in values.values() if isinstance(value, str)]
        named += [place for text in texts for place in (text, text.partition(":")[2]) if place]
    return {place: sum_of_file(Path(place)).sha256 for place in named if _is_file(place)}


def _is_file(place: str) -> bool:
    try:
        return Path(place).is_file()
    except (OSError, ValueError):  # no name that a file could have
        return False
