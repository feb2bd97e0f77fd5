"""From options to a complete recipe: every default filled in, everything checked, and what has no effect told."""

from typing import Any

from thalweg import names
from thalweg.errors import InputError
from thalweg.tasks.spec import PRETRAINED, TaskSpec, kind_of
from thalweg.training.recipe.defaults import Values, sees_all_data
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, Recipe, typed
from thalweg.training.recipe.rules import check


def complete(options: Options, known: Values | None = None) -> Recipe:
    """Return the recipe with every option filled in, and checked; `options` hold `task` and `source` at least.

    `known` are defaults that this part cannot know: the optimizer's own learning rate, the width of vectors in a file.
    An InputError tells of a name no table has, a number out of its range, or options that contradict each other.
    """
    recipe = Recipe.of({**defaults_for(options, known), **options})
    check(recipe)
    return recipe


def defaults_for(options: Options, known: Values | None = None) -> dict[str, Any]:
    """Return the value that each option has when it is not given; the arguments are those of `complete`."""
    spec = names.task_spec(options["task"])
    model = options["model"] if "model" in options else default_model(spec, options)
    freeze = bool(options.get("freeze"))
    if model not in spec.models and not model.startswith(PRETRAINED):
        raise InputError(
            f"Task '{spec.name}' has no model '{model}'; expected one of {', '.join(spec.models)} (--model), or "
            f"{PRETRAINED}PATH for a pretrained one."
        )
    own, kind = names.model_spec(spec.name, model, freeze=freeze), kind_of(model, freeze=freeze)
    # Defaults that go with the model's own optimizer are none beside another.
    stated = {} if "optimizer" in own.defaults and "optimizer" in options else own.defaults
    found = {name: option.by_model.get(kind, option.default) for name, option in OPTIONS.items()}
    found |= {**spec.defaults, **stated, **(known or {}), "task": spec.name, "model": model, "name": spec.name}
    values = {**found, **options}
    proved = wants_proof(options, solver=own.solver, by_default=own.solves_by_default)
    for name, option in OPTIONS.items():
        if (
            (proved or sees_all_data(values))
            and option.full_batch is not None
            and not ("optimizer" in stated and name in stated)
        ):
            found[name] = option.full_batch
        if proved and option.proved is not None:
            found[name] = option.proved
        if proved and option.proved_given is not None and name not in own.defaults:
            found[name] = option.proved_given(options)
    if proved:
        found["optimizer"] = own.solver or options["optimizer"]
    for name, option in OPTIONS.items():
        if option.follows is not None:
            found[name] = option.follows({**found, **options, name: found[name]})
    return found


def default_model(spec: TaskSpec, options: Options) -> str:
    """Return the model of a task where none was named.

    An option about a network or its training, such as a hidden layer or an optimizer, means the task's network, where
    its usual model is none.
    """
    usual = spec.defaults["model"]
    if not spec.network or options.get("optimizer") in names.SOLVERS:
        return usual
    given = [OPTIONS[name] for name, value in options.items() if value]
    for_network = [one for one in given if spec.network in one.models and usual not in one.models]
    return spec.network if for_network or any(one.wants for one in given) else usual


def wants_proof(options: Options, *, solver: str, by_default: bool) -> bool:
    """Whether a run trains to a proved optimum, unless the data turn out to be too large.

    `solver` is the one of its model, or "". The task may take it `by_default`, where nothing speaks against it.
    """
    if options.get("optimizer") in names.SOLVERS:
        return True
    if not solver or not by_default or options.get("precision") == "bfloat16":
        return False
    asks = {OPTIONS[name].wants for name, value in options.items() if value}
    return "method" not in asks and (bool(options.get("certify")) or "passes" not in asks)


def without_effect(options: Options, known: Values | None = None) -> list[str]:
    """Return a sentence for each option that was given and does nothing here; see `idle`."""
    return list(idle(options, known).values())


def idle(options: Options, known: Values | None = None) -> dict[str, str]:
    """Return which options were given and do nothing here, each with a sentence, so that nobody waits for its effect.

    A value that is the default anyway is passed over, as in a recipe file, which holds every option. The arguments
    are those of `complete`.
    """
    defaults = defaults_for(options, known)
    values = {**defaults, **options}
    traits = names.task_spec(values["task"]).traits
    sentences = {}
    for name, value in options.items():
        option = OPTIONS[name]
        if defaults[name] is not None and value == typed(name, defaults[name], name):
            continue
        if option.trait and option.trait not in traits:
            sentences[name] = f"{option.flag} has no effect on --task {values['task']}."
        elif option.models and kind_of(values["model"], freeze=values["freeze"]) not in option.models:
            sentences[name] = f"{option.flag} has no effect on --model {values['model']}."
        elif why := option.idle(values):
            sentences[name] = f"{option.flag} has no effect {why}."
    return sentences
