"""An optimizer where nobody named one: facts about network and data -> the settings that stand in the run's recipe."""

import math
from collections.abc import Callable
from typing import Final

from torch import nn

from thalweg import names, noise
from thalweg.heads.base import AbstractHead
from thalweg.objective import Objective
from thalweg.optim import auto
from thalweg.optim.rate_search import FoundRate, find_rate
from thalweg.tasks.base import AbstractTask, Prepared
from thalweg.training.folder import build
from thalweg.training.recipe.complete import complete
from thalweg.training.recipe.options import OPTIONS
from thalweg.training.recipe.recipe import Options, Recipe
from thalweg.training.session import optimizer
from thalweg.training.steps.device import choose_device, choose_precision
from thalweg.training.steps.feed import Feed
from thalweg.training.steps.fit import num_tokens, set_seed

# Options that speak of mini-batches, so that all data at once is not what is wanted.
OF_MINI_BATCHES: Final = frozenset(
    name
    for name, option in OPTIONS.items()
    if option.section == "training" and (option.wants == "method" or name == "accumulate")
)
TRIED_STEPS: Final = 4
FEWEST_STEPS: Final = 20  # of a run for each step that is tried before it


def resolve(
    recipe: Recipe,
    given: Options,
    task: AbstractTask,
    prepared: Prepared,
    *,
    is_timed: bool = False,
    fast: bool = False,
    say: Callable[[str], None],
) -> Recipe:
    """Return the recipe with an optimizer chosen, and all that goes with it, where its optimizer is "auto".

    What was `given` stays as it is. `say` takes the sentence about what was chosen, and why. The same data, options and
    machine get the same recipe; it holds no "auto" any more, so that it alone repeats the run.
    """
    if recipe.training.optimizer != names.AUTOMATIC:
        named = ["--shard"] if recipe.training.shard else []
        named += [f"--{name.replace('_', '-')}" for name in ("line_search", "optimizer_options") if given.get(name)]
        if named and "optimizer" not in given and recipe.training.optimizer == names.SEARCHED_OPTIMIZER:
            what = f"{' and '.join(named)} {'apply' if named[1:] else 'applies'}"
            say(f"Optimizer: {names.SEARCHED_OPTIMIZER}, to which {what}; --optimizer names another.")
        return recipe
    device = choose_device(recipe.run.device)
    feed = build.build_feed(recipe, task, prepared.train, device)
    first = feed(0)[0] if device.type == "cpu" else feed(0)[0].to("cpu")
    counts = task.token_counts(prepared.train) if recipe.model.head != "softmax" else None
    model, head = build.build_networks(recipe, task, batch=first, counts=counts)
    model.to(device)
    head.to(device)
    return decide(recipe, given, model, head, feed, is_timed=is_timed, tries=not fast, say=say)


def decide(
    recipe: Recipe,
    given: Options,
    model: nn.Module,
    head: AbstractHead,
    feed: Feed,
    *,
    is_timed: bool = False,
    tries: bool = True,
    say: Callable[[str], None],
) -> Recipe:
    """Return what `resolve` does, for networks and batches that are made; the networks are as they were afterwards."""
    device, given = choose_device(recipe.run.device), given.with_(optimizer=None)
    takes_all = not (recipe.model.dropout or recipe.data.carry or OF_MINI_BATCHES & set(given))
    takes_all = takes_all and device.type != "mps" and choose_precision(recipe.run.precision, device)[1] is None
    total = math.inf if is_timed else _total_steps(recipe, feed)
    facts = auto.facts_of(
        model,
        head,
        num_rows=len(feed.examples),
        batch_rows=sum(num_tokens(batch) or batch.num_examples for batch in feed(0)),
        num_batches=feed.steps_per_epoch,
        takes_all_data=takes_all,
        may_enlarge_batch=not {"batch_size", "steps"} & set(given) and recipe.training.batch_size > 0,
        total_steps=int(total) if math.isfinite(total) else None,
    )
    choice = auto.choose(facts)
    if choice.settings["optimizer"] in names.METHODS:  # with the defaults that it has when it is named
        chosen = complete(given.with_(optimizer=choice.settings["optimizer"]))
        what = f"{chosen.training.optimizer} on all data at once"
        say(f"Optimizer: {what}, since {choice.why}; --optimizer names another.")
        return chosen
    own = {name: value for name, value in choice.settings.items() if name not in given}
    if recipe.training.average == names.SCHEDULE_FREE:  # which has a schedule of its own
        own.pop("schedule", None)
    if choice.batch_factor > 1:
        own["batch_size"] = choice.batch_factor * recipe.training.batch_size
    if "clip" in given and "clip_running" not in given:
        own |= {"clip_running": 0.0}
    recipe, found = recipe.with_(**own), None
    feed = feed.with_batch_size(recipe.training.batch_size)
    total = math.inf if is_timed else _total_steps(recipe, feed)
    tried = int(min(TRIED_STEPS, total // FEWEST_STEPS))
    if choice.searches_rate and "lr" not in given and tries and tried:
        found = _search(recipe, model, head, feed, tried)
        recipe = recipe.with_(lr=float(f"{recipe.training.lr * found.factor:.3g}"))
    say(_sentence(recipe, choice, found, given))
    return recipe


def _total_steps(recipe: Recipe, feed: Feed) -> float:
    training = recipe.training
    return min(training.steps or math.inf, math.ceil(training.epochs * feed.steps_per_epoch) or math.inf)


def _search(recipe: Recipe, model: nn.Module, head: AbstractHead, feed: Feed, num_steps: int) -> FoundRate:
    device = choose_device(recipe.run.device)
    autocast = choose_precision(recipe.run.precision, device)[1]
    model.train()
    head.train()
    devices = noise.accelerators([*model.parameters(), *head.parameters()])

    def objective(step: int) -> Objective:
        set_seed(recipe.run.seed, step, devices)
        return Objective(model, head, feed(step), l2=recipe.training.l2, autocast=autocast)

    with noise.borrowed(devices):
        return find_rate(
            lambda: optimizer.build_optimizer(recipe, model, head),
            objective,
            num_steps=num_steps,
            clip=lambda: optimizer.build_clipping(recipe, head).gradient,
        )


def _sentence(recipe: Recipe, choice: auto.Choice, found: FoundRate | None, given: Options) -> str:
    training = recipe.training
    rate = f"rate {training.lr:.2g}"
    if "lr" in given:
        rate += " as given"
    elif found is not None and found.factor != 1.0:
        rate += f" (tried first: {training.lr / found.factor:.2g})"
    elif found is not None and found.after < found.before:
        rate += f" (tried: the loss falls from {found.before:.3g} to {found.after:.3g})"
    chosen = f"{training.optimizer}, {rate}, schedule {training.schedule}"
    return f"Optimizer: {chosen}, since {choice.why}; --optimizer names another."
