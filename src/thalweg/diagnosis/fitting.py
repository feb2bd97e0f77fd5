"""A repair fitted to the recipe it is for: what it changes there, and what would do nothing or is refused."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from thalweg.diagnosis.finding import Finding
from thalweg.errors import InputError
from thalweg.training.recipe.complete import complete, idle
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.reading import on_top

LENGTHS: Final = frozenset(("epochs", "steps"))


def with_changes(recipe: Options, changes: Mapping[str, Any]) -> Options:
    """Return the options of a complete recipe with the changes of a repair; None: no longer given."""
    lengths = LENGTHS if changes.keys() & LENGTHS else frozenset()  # one of them given: the other is not the limit
    kept = recipe.with_(dict.fromkeys(changes.keys() | lengths))
    return on_top(kept, Options(changes))


def fitted(finding: Finding, recipe: Options) -> Finding:
    """Return a finding whose repair changes only options that make a difference to a complete recipe.

    A sentence is added where it changes nothing at all, or where an option of it would do nothing or is refused.

    Example:
        >>> from thalweg.diagnosis.finding import Repair, Severity
        >>> repair = Repair("Units that cannot die: --activation gelu.", {"activation": "gelu", "init": "default"})
        >>> found = Finding("dead-units", Severity.ERROR, "1.", repair)
        >>> recipe = Options(complete(Options(task="classify", source="x.csv", model="lstm")).values())
        >>> fitted(found, recipe).repair
        Repair(sentence='Units that cannot die: --activation gelu. --activation has no effect on --model lstm; this \
run has all the rest.', options={}, action='')
    """
    repair = finding.repair
    if not repair.options:
        return finding
    before = dict(recipe)
    try:
        options = with_changes(recipe, repair.options)
        after = complete(options).values()
    except InputError as error:
        return _with(finding, {}, f"This run's other options do not go with it: {error}")
    silent = {name: sentence for name, sentence in idle(options).items() if name in repair.options}
    kept = {
        name: value for name, value in repair.options.items() if name not in silent and after[name] != before.get(name)
    }
    told = [sentence.rstrip(".") for name, sentence in silent.items() if after[name] != before.get(name)]
    if not kept:
        told.append("this run has all the rest" if told else "This run has all of that already")
    return _with(finding, kept, f"{'; '.join(told)}." if told else "")


def _with(finding: Finding, options: Mapping[str, Any], sentence: str) -> Finding:
    words = f"{finding.repair.sentence} {sentence}".strip()
    return dataclasses.replace(finding, repair=dataclasses.replace(finding.repair, sentence=words, options=options))
