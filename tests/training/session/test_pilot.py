"""How long a solver takes is foretold from two small parts of the data."""

import math

import pytest

from thalweg.training.recipe.recipe import Options
from thalweg.training.session import pilot
from thalweg.training.session.plan import Request, make_plan


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pilot")
    path = folder / "reviews.csv"
    rows = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(200)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return make_plan(Request(Options(source=str(path), model="linear"), folder), lambda sentence: None)


@pytest.mark.parametrize("growth", [0, 2])
def test_steps_and_seconds_go_on_as_they_grow(plan, monkeypatch, growth):
    rows = len(plan.prepared.train)
    steps = {rows // 16: 5, rows // 4: 5 + growth}
    monkeypatch.setattr(pilot, "_solve", lambda recipe, task, prepared, n: (n, steps[n], 0.5 + 0.25 * n))
    found = pilot.seconds_to_solve(plan.recipe, plan.task, plan.prepared)
    ratio = math.log(rows / (rows // 4)) / math.log((rows // 4) / (rows // 16))
    assert found == pytest.approx((5 + growth + growth * ratio) * (0.5 + 0.25 * rows))


def test_parts_are_trained_on_with_a_penalty_of_the_same_strength(plan, monkeypatch):
    asked = []

    def objective(model, head, batches, *, l2):
        asked.append((batches[0].num_examples, l2))
        return wrapped(model, head, batches, l2=l2)

    wrapped = pilot.Objective
    monkeypatch.setattr(pilot, "Objective", objective)
    assert pilot.seconds_to_solve(plan.recipe, plan.task, plan.prepared) > 0.0
    rows = len(plan.prepared.train)
    assert [n for n, _ in asked] == [rows // 16, rows // 4]
    assert [n * l2 for n, l2 in asked] == pytest.approx([rows * plan.recipe.training.l2] * 2)
