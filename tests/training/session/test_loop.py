"""What happens around the steps: evaluation, the best weights, bounds, NaN, going back, giving up."""

import errno
import math
import threading
import time

import pytest
import torch
from torch import nn

from thalweg import certify, diagnose
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.storage.files import sum_of
from thalweg.training.folder.checkpoint import Saving
from thalweg.training.folder.report import rejections
from thalweg.training.folder.run import Run
from thalweg.training.folder.tensor_files import load_tensors
from thalweg.training.integrity.run_files import WEIGHTS
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.finish import finish
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare
from thalweg.training.session.stopping import MAX_REJECTED, MAX_ROLLBACKS
from thalweg.training.steps.evaluate import Evaluation


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [
        f"{'fine' if number % 2 else 'awful'} thing {number % 37} {number},{'good' if number % 2 else 'bad'}"
        for number in range(300)
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return path


def session_for(reviews, out, **options):
    given = Options({"source": reviews, "model": "bag", "width": 4, "epochs": 6.0, **options})
    return prepare(Request(given, out), lambda sentence: None)


def spoil(session, steps):
    """Make the loss NaN on some steps of a session, each time they come."""
    feed = session.feed
    inner = feed.collate

    def collate(examples, indices):
        batch = inner(examples, indices)
        if session.place.step in steps:
            batch.inputs["weights"].fill_(math.nan)
        return batch

    feed.collate = collate


@pytest.mark.usefixtures("pictures")
def test_single_nan_steps_are_counted_and_leave_the_weights_sound(reviews, tmp_path):
    session = session_for(reviews, tmp_path, lr=0.05)
    spoil(session, {3, 9})
    entries = list(train_loop(session))
    assert [entry["step"] for entry in entries if entry["event"] == "rejected"] == [4, 10]
    assert not [entry for entry in entries if entry["event"] == "rollback"]
    summary = finish(session, Status.COMPLETED)
    assert summary["num_rejected"] == 2
    assert summary["metrics"]["accuracy"] > 0.8
    assert session.parts.is_sound()
    page = (session.run.folder / "report.html").read_text()
    assert "2 steps were rejected" in page


def test_several_in_a_row_go_back_to_the_last_good_checkpoint_with_a_smaller_step(reviews, tmp_path):
    session = session_for(reviews, tmp_path, schedule="constant", lr=0.02)
    weights_before = {}
    inner = session.feed.collate
    visits = []

    def collate(examples, indices):
        batch = inner(examples, indices)
        visits.append(session.place.step)
        if session.place.step in {7, 8, 9} and visits.count(session.place.step) == 1:
            batch.inputs["weights"].fill_(math.nan)
        return batch

    session.feed.collate = collate
    rates = []
    for entry in train_loop(session):
        if entry["event"] == "evaluation" and entry["step"] == 5:
            weights_before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
        if entry["event"] == "rollback":
            assert (entry["step"], entry["to_step"], entry["lr_scale"]) == (10, 5, 0.5)
            for name, tensor in session.model.state_dict().items():
                assert torch.equal(tensor, weights_before[name])
        if entry["event"] == "step":
            rates.append((entry["step"], entry["lr"]))
    assert rates[6] == (7, 0.02)
    assert rates[7] == (6, 0.01)
    assert {rate for _, rate in rates[7:]} == {0.01}
    assert finish(session, Status.COMPLETED)["num_rollbacks"] == 1


@pytest.mark.usefixtures("pictures")
def test_a_run_that_cannot_be_saved_gives_up_with_a_message_and_keeps_the_best_weights(reviews, tmp_path):
    session = session_for(reviews, tmp_path)
    spoil(session, set(range(12, 10_000)))
    entries = list(train_loop(session))
    assert entries[-1]["status"] == "NOT_FINITE"
    rollbacks = [entry for entry in entries if entry["event"] == "rollback"]
    assert [entry["lr_scale"] for entry in rollbacks] == [0.5**k for k in range(1, MAX_ROLLBACKS + 1)]
    assert sum(entry["event"] == "rejected" for entry in entries) >= MAX_REJECTED * (MAX_ROLLBACKS + 1)
    summary = finish(session, Status.NOT_FINITE)
    assert "A smaller --lr" in summary["sentence"]
    assert summary["metrics"]["accuracy"] > 0.5
    assert session.run.status is Status.NOT_FINITE
    assert session.run.finished


@pytest.mark.parametrize("average", ["ema", "schedule-free"])
def test_an_average_goes_back_to_the_start_too(reviews, tmp_path, average):
    """Whatever names it has given its groups since."""
    session = session_for(reviews, tmp_path, average=average, optimizer="adamw", steps=5)
    spoil(session, {1, 2, 3})
    rollbacks = [entry for entry in train_loop(session) if entry["event"] == "rollback"]
    assert [(entry["step"], entry["to_step"]) for entry in rollbacks] == [(4, 0)] * MAX_ROLLBACKS


@pytest.mark.parametrize(
    ("spoiled", "options", "told", "times"),
    [
        (range(12, 10_000), {}, ", the best before, are kept.", 4),
        (range(10_000), {}, "No evaluation produced a finite score, so no weights were saved.", 4),
        (range(10_000), {"steps": 2}, "No evaluation produced a finite score, so no weights were saved.", 0),
    ],
)
def test_a_sentence_tells_of_going_back_where_that_has_happened(reviews, tmp_path, spoiled, options, told, times):
    session = session_for(reviews, tmp_path, model="mlp", optimizer="sgd", **options)
    spoil(session, set(spoiled))
    if spoiled[0] == 0:
        session.measure = lambda: Evaluation(math.nan, {"accuracy": math.nan})
    status = Status[list(train_loop(session))[-1]["status"]]
    summary = finish(session, status)
    assert status is Status.NOT_FINITE
    assert told in summary["sentence"]
    (sentence,) = rejections(summary)
    assert (f"{times} times, each time with half the learning rate" in sentence) == (times > 0)
    assert "back" not in summary["sentence"]


WILD = [  # status, and whether there are weights
    ({"model": "mlp", "optimizer": "adamw", "lr": 1e10}, "NOT_FINITE", False),
    ({"model": "mlp", "optimizer": "adagrad", "lr": 1e10, "evaluate_every": 4}, "COMPLETED", True),
    ({"model": "mlp", "optimizer": "sgd", "lr": 1e30, "clip": 0.0, "average": "schedule-free"}, "NOT_FINITE", False),
    ({"model": "mlp", "optimizer": "lbfgs", "lr": 1e30, "line_search": "wolfe"}, "NO_STEP", True),
    ({"model": "lstm", "optimizer": "muon", "lr": 1e10, "evaluate_every": 4}, "NOT_FINITE", True),
    ({"model": "linear", "optimizer": "adamw", "lr": 1e30}, "COMPLETED", True),
    ({"model": "mlp", "optimizer": "sgd", "lr": 1e-30, "clip": 0.0}, "COMPLETED", True),
]


@pytest.mark.parametrize(("options", "status", "kept"), WILD)
def test_at_a_wild_rate_weights_are_finite_or_absent(reviews, tmp_path, options, status, kept):
    small = {} if options["model"] == "linear" else {"width": 4, "hidden": 4}
    run = train(reviews, **{**options, **small}, steps=8, batch_size=16, out=tmp_path)
    assert run.status.name == status
    assert (run.folder / WEIGHTS).exists() == kept
    if kept:
        assert all(torch.isfinite(weight).all() for weight in load_tensors(run.folder / WEIGHTS).values())
        assert math.isfinite(run.predict(["fine thing"])[0]["probability"])
    else:
        with pytest.raises(InputError, match=r"has no weights\. The loss was NaN or infinite and stayed so"):
            run.predict(["fine thing"])


def test_a_run_that_never_had_a_finite_loss_says_so(reviews, tmp_path):
    session = session_for(reviews, tmp_path)
    spoil(session, set(range(10_000)))
    inner = session.measure
    session.measure = lambda: type(inner())(math.nan, {"accuracy": math.nan})
    assert list(train_loop(session))[-1]["status"] == "NOT_FINITE"
    assert finish(session, Status.NOT_FINITE)["sentence"].startswith("No evaluation produced a finite score")


def test_a_run_without_a_finite_score_is_not_completed(reviews, tmp_path):
    """Whatever bound its steps come to first: one answer in history, metrics, exit code and sentence."""
    options = {"model": "mlp", "optimizer": "sgd", "lr": 1e30, "clip": 0.0, "out": tmp_path}
    for name, more in (("steps", {"steps": 3}), ("patience", {"steps": 9, "patience": 1, "evaluate_every": 1})):
        run = train(reviews, **options, **more, name=name)
        assert run.history[-1]["status"] == run.status.name == "NOT_FINITE"
        assert run.metrics == {}
        for use in (Run.require_weights, certify, diagnose, lambda run: run.predict(["fine"])):
            with pytest.raises(InputError, match=rf"{name} has no weights. The loss was NaN or infinite"):
                use(run)


def test_steps_go_on_while_a_checkpoint_is_written(reviews, tmp_path, monkeypatch):
    """The disk takes as long as it likes: the first one is written when the steps after it are done."""
    disk, written, write = threading.Event(), [], Saving.write

    def slow(saving, *given, **named):
        assert disk.wait(60)
        written.append(write(saving, *given, **named).name)

    monkeypatch.setattr(Saving, "write", slow)
    session = session_for(reviews, tmp_path, steps=6, epochs=0.0, evaluate_every=5)
    entries = train_loop(session)
    steps = [next(entry["step"] for entry in entries if entry["event"] == "step") for _ in range(4)]
    assert steps == [1, 2, 3, 4]
    assert written == []
    disk.set()
    assert [entry["event"] for entry in entries][-1] == "finished"
    assert written == ["step-00000000", "step-00000005", "step-00000006"]


def test_what_the_disk_refuses_is_told_at_the_next_checkpoint(reviews, tmp_path, monkeypatch):
    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Saving, "write", full)
    session = session_for(reviews, tmp_path, steps=6, epochs=0.0, evaluate_every=2)
    with pytest.raises(OSError, match="No space left on device"):
        list(train_loop(session))
    assert session.place.step == 2


def test_weights_that_are_not_finite_are_never_saved(reviews, tmp_path):
    session = session_for(reviews, tmp_path)
    session.save(sum_of(b""))
    before = sorted((session.run.folder / "checkpoints").iterdir())
    with torch.no_grad():
        next(session.model.parameters()).fill_(math.inf)
    session.place.step = 5
    session.save(sum_of(b""))
    assert sorted((session.run.folder / "checkpoints").iterdir()) == before


def test_the_best_weights_are_kept_not_the_last(reviews, tmp_path):
    session = session_for(reviews, tmp_path, lr=0.5, epochs=8.0)
    best = {}
    for entry in train_loop(session):
        if entry["event"] == "evaluation":
            if entry["best"]:
                best = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
            else:
                break_weights(session)
    finish(session, Status.COMPLETED)
    for name, tensor in session.run.model.state_dict().items():
        assert torch.equal(tensor, best[name])


def test_scores_are_compared_and_nothing_is_written(reviews, tmp_path):
    session = session_for(reviews, tmp_path)
    scores = [(0.7, 0.5), (0.6, 0.4), (0.6, 0.5), (math.nan, math.nan)]  # of equal scores the smaller loss is better
    taken = [session.take_score(Evaluation(loss, {"accuracy": accuracy})) for loss, accuracy in scores]
    assert taken == [True, False, True, False]
    assert (session.score.best, session.score.best_loss, session.score.without_progress) == (0.5, 0.6, 1)
    assert not (session.run.folder / "model.safetensors").exists()


def break_weights(session):
    with torch.no_grad():
        for parameter in session.head.parameters():
            parameter.neg_()


BOUNDS = {
    "steps": ({"steps": 7}, 7),
    "epochs": ({"epochs": 2.0}, 10),
    "half an epoch": ({"epochs": 0.5}, 3),
    "the smaller of both": ({"epochs": 2.0, "steps": 4}, 4),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_bounds_of_a_run(reviews, tmp_path, case):
    options, steps = BOUNDS[case]
    run = train(reviews, out=tmp_path, model="bag", width=4, **options)
    assert run.result["steps"] == steps
    assert run.status is Status.COMPLETED


def test_time_alone_plans_the_steps_and_writes_them_into_the_recipe(reviews, tmp_path):
    said = []
    run = train(reviews, out=tmp_path, model="bag", optimizer="adamw", width=4, time=1.5, say=said.append)
    assert run.recipe.training.steps
    assert run.recipe.training.steps >= run.result["steps"] > 10
    assert any("The schedule follows the clock" in sentence for sentence in said)
    assert run.result["seconds"] < 6.0


def test_a_timed_run_that_was_killed_before_its_plan_is_planned_again(reviews, tmp_path, monkeypatch):
    def killed(*arguments):
        raise SystemExit

    options = {"model": "bag", "width": 4, "time": 1.5, "optimizer": "adamw"}
    with monkeypatch.context() as patch:
        patch.setattr("thalweg.training.session.prepare._fit_to_time", killed)
        patch.setattr("thalweg.training.integrity.new_folder.NewFolder.discard", lambda folder: None)
        with pytest.raises(SystemExit):
            train(reviews, out=tmp_path, **options)
    (left,) = tmp_path.glob("reviews/recipe.toml")
    assert "steps = 0" in left.read_text()
    run = train(reviews, out=tmp_path, **options)
    assert run.folder == left.parent
    assert run.recipe.training.steps


def test_the_speed_leaves_evaluations_out(reviews, tmp_path):
    session = session_for(reviews, tmp_path, evaluate_every=2, steps=8)
    inner = session.measure

    def slow():
        end = time.perf_counter() + 0.25
        while time.perf_counter() < end:
            pass
        return inner()

    session.measure = slow
    steps = [entry for entry in train_loop(session) if entry["event"] == "step"]
    assert "examples_per_second" not in steps[0], "the first step starts everything up"
    assert all(entry["examples_per_second"] > 64 / 0.2 for entry in steps[1:])
    assert all(entry["tokens_per_second"] > entry["examples_per_second"] for entry in steps[1:])


def test_a_time_limit_ends_a_long_run(reviews, tmp_path):
    run = train(reviews, out=tmp_path, model="bag", width=4, epochs=100_000.0, time=0.7)
    assert run.status is Status.OUT_OF_TIME
    assert run.metrics


def test_patience_stops_a_run_that_gets_no_better(reviews, tmp_path):
    run = train(reviews, out=tmp_path, model="bag", width=4, epochs=200.0, patience=2, lr=0.1)
    assert run.status is Status.STOPPED_EARLY
    evaluations = [entry for entry in run.history if entry["event"] == "evaluation"]
    assert [entry["best"] for entry in evaluations[-2:]] == [False, False]
    assert run.result["steps"] < 1000


@pytest.mark.usefixtures("pictures")
def test_fast_takes_two_steps_of_everything(reviews, tmp_path):
    assert train(reviews, out=tmp_path, name="net", fast=True, model="gru").result["steps"] == 2
    run = train(reviews, out=tmp_path, fast=True)
    assert run.result["steps"] <= 2  # the optimum may be proved before
    assert (run.folder / "report.html").is_file()
    assert run.predict(["fine thing"])[0]["label"] in {"good", "bad"}


def test_the_seed_decides_the_run(reviews, tmp_path):
    options = {"model": "mlp", "width": 8, "hidden": 8, "epochs": 1.0, "dropout": 0.2}
    runs = [train(reviews, out=tmp_path / str(k), seed=seed, **options) for k, seed in enumerate((1, 1, 2))]
    states = [run.model.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_metrics_agree_with_scikit_learn(reviews, tmp_path):
    from sklearn.metrics import accuracy_score, f1_score

    session = session_for(reviews, tmp_path, epochs=0.4, lr=0.05)
    list(train_loop(session))
    summary = finish(session, Status.COMPLETED)
    run, valid = session.run, session.prepared.valid
    answers = [answer["label"] for answer in run.predict(valid.raw)]
    labels = run.task.labels
    truth = [labels[i] for i in valid.columns["labels"]]
    assert summary["metrics"]["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    assert summary["metrics"]["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))


def test_the_loss_of_the_summary_is_the_mean_over_all_validation_texts(reviews, tmp_path):
    session = session_for(reviews, tmp_path, epochs=1.0)
    list(train_loop(session))
    summary = finish(session, Status.COMPLETED)
    run, valid = session.run, session.prepared.valid
    losses = []
    with torch.no_grad():
        for index in range(len(valid)):
            batch = run.task.batch(valid, torch.tensor([index]).numpy())
            losses.append(nn.functional.cross_entropy(run.head(run.model(**batch.inputs)), batch.targets))
    assert summary["loss"] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_a_second_text_can_be_left_out(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = [f"fine thing {k},plain thing {k % 5},{k / 100}" for k in range(100)]
    path.write_text("sentence1,sentence2,score\n" + "\n".join(rows) + "\n")
    pair = train(path, out=tmp_path, task="score", model="bag", fast=True, width=4)
    alone = train(path, out=tmp_path, task="score", model="bag", fast=True, width=4, other_column="none")
    assert "other" in pair.data["columns"]
    assert "other" not in alone.data["columns"]
    assert alone.model.width == 4
    assert pair.model.width == 16
    again = train(alone.folder / "recipe.toml", out=tmp_path / "again", fast=True)
    assert again.data["columns"] == alone.data["columns"]
