"""Which run teaches, what follows for the options, and what is refused."""

import shutil

import pytest

from thalweg.errors import InputError
from thalweg.storage.ledger import Ledger
from thalweg.training.distilled.choosing import taught_options, teacher_of
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train

ROWS = [{"text": f"{word} {number}", "label": word} for number in range(12) for word in ("sea", "hill")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train(ROWS, model="linear", l2=0.1, out=folder, name="teacher", text_column="text", label_column="label")
    train(
        [{"text": row["text"]} for row in ROWS],
        task="language",
        fast=True,
        model="lstm",
        width=4,
        hidden=4,
        out=folder,
        name="writer",
    )
    return folder


def test_only_task_and_columns_are_the_teachers(runs):
    given = Options(distill=True, start_from=str(runs / "teacher"), model="bag")
    teacher = teacher_of(given, None)
    options, hints = taught_options(given, teacher)
    assert (options["task"], options["model"], "l2" in options) == ("classify", "bag", False)
    assert options["start_from"].startswith(f"{runs / 'teacher'}#")
    assert hints == {"text_column": "text", "label_column": "label"}
    assert teacher_of(Options(model="bag"), None) is None


CASES = {
    "no run": ({}, "name it with --start-from"),
    "missing": ({"start_from": "nowhere"}, "no run folder nowhere"),
    "another task": ({"start_from": "writer"}, "--distill is for --task classify and score; .* of task 'language'"),
    "told another": ({"start_from": "teacher", "task": "score"}, "can't teach task 'score'"),
    "weights": ({"start_from": "teacher", "class_weights": "balanced"}, "--class-weights are for labels"),
    "streaming": ({"start_from": "teacher", "streaming": "yes"}, "streaming yes"),
    "weight": ({"start_from": "teacher", "distill_weight": 1.5}, "must be 0, or lie between 1e-30 and 1"),
}


@pytest.mark.parametrize(("options", "said"), CASES.values(), ids=CASES)
def test_what_cannot_teach_is_refused(runs, tmp_path, options, said):
    named = (
        {"start_from": str(runs / options["start_from"])} if options.get("start_from") in ("teacher", "writer") else {}
    )
    with pytest.raises(InputError, match=said):
        train(ROWS, distill=True, out=tmp_path, **(options | named))


BAD_ROWS = {
    "label": ([*ROWS, {"text": "x", "label": "town"}], "does not know the label 'town'"),
    "pairs": ([row | {"label": [row["label"], "wet"]} for row in ROWS], "was trained on single texts with one answer"),
}


@pytest.mark.parametrize(("rows", "said"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_data_that_the_teacher_does_not_know_are_refused(runs, tmp_path, rows, said):
    with pytest.raises(InputError, match=said):
        train(rows, start_from=runs / "teacher", distill=True, out=tmp_path)


def test_a_run_that_was_distilled_starts_others_from_its_weights(runs, tmp_path):
    first = train(ROWS, start_from=runs / "teacher", distill=True, model="linear", l2=0.1, out=tmp_path, name="a")
    second = train(ROWS, start_from=first.folder, out=tmp_path, name="b")
    assert second.recipe.training.distill is False
    assert second.finished


def test_one_that_is_unfinished_does_not_teach(runs, tmp_path):
    folder = tmp_path / "open"
    shutil.copytree(runs / "teacher", folder)
    Ledger(folder).write({}, removed=["metrics.json"])
    with pytest.raises(InputError, match="has not finished training"):
        teacher_of(Options(distill=True, start_from=str(folder)), None)
