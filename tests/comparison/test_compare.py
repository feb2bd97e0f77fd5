"""Comparisons from beginning to end: equal conditions, honest records, going on, joining in, and what goes wrong."""

import copy
import html
import json
import math
import subprocess
import sys
import time
from collections import defaultdict

import pytest
import torch
from reviews import write_reviews

from thalweg.comparison import rounds
from thalweg.comparison.compare import answer, ask, compare
from thalweg.comparison.contest import Contest, checksums, metric_of, open_contest, unit_of
from thalweg.comparison.ledger import Claim, Ledger
from thalweg.comparison.running import Runner
from thalweg.errors import InputError
from thalweg.storage import ledger
from thalweg.storage.lock import HeldError, Lock
from thalweg.training.recipe.recipe import Options, read_recipe

comparing = sys.modules["thalweg.comparison.compare"]  # the function `compare` has its name, too
SMALL = {"model": "mlp", "width": 8, "hidden": 8, "batch_size": 32}
FEW = {**SMALL, "steps": 4, "trials": 2, "seeds": 2}


def run(source, out, optimizers="adamw,sgd", **changes):
    return compare(source, optimizers=optimizers, out=out, **{**FEW, **changes})


def without_clock(value):
    """A result without what the clock says, and without what is made of that."""
    if isinstance(value, dict):
        return {
            key: without_clock(entry)
            for key, entry in value.items()
            if "seconds" not in key and not (key == "pairs" or key == "sentence")
        }
    return [without_clock(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def undisturbed(reviews, tmp_path_factory):
    return run(reviews, tmp_path_factory.mktemp("undisturbed"))


def test_the_folder_holds_what_a_person_can_read(undisturbed):
    folder = undisturbed.folder
    assert folder.name == "compare-reviews"
    assert json.loads((folder / "compare.json").read_text()) == undisturbed.result
    page = html.unescape((folder / "compare.html").read_text(encoding="utf-8"))
    assert undisturbed.sentence in page
    assert all(trial["lr"] > 0 for trial in undisturbed.result["data"][0]["entrants"][0]["trials"])
    history = [json.loads(line) for line in (folder / "runs/reviews/sgd/seed-1/history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history if entry["event"] == "step"] == [1, 2, 3, 4]
    assert (folder / "runs/reviews/adamw/trial-0/recipe.toml").read_text().count("steps = 4")


def test_every_entrant_has_the_same_number_of_trials_and_seeds(undisturbed):
    (data,) = undisturbed.result["data"]
    assert [(len(e["trials"]), len(e["seeds"])) for e in data["entrants"]] == [(2, 2), (2, 2)]
    for entrant in data["entrants"]:
        best = min(entrant["trials"], key=lambda trial: trial["loss"])
        assert entrant["winner"] == best["settings"]
        edge = {min: "lowest", max: "highest"}[min if best["lr"] < max(t["lr"] for t in entrant["trials"]) else max]
        assert entrant["edge"] == edge  # of two trials one is always an edge
        assert any(f"learning rate of {entrant['name']} is the {edge} of the 2 tried" in note for note in data["notes"])
        assert [seed["seed"] for seed in entrant["seeds"]] == [0, 1]
        assert [len(values) for values in entrant["seeds"][0]["curve"].values()] == [5] * 6
        assert entrant["seeds"][0]["curve"]["step"] == [0, 1, 2, 3, 4]
        # The last batch of the epoch holds 12 of 32 examples.
        assert entrant["seeds"][0]["curve"]["evaluations"] == [0.0, 1.0, 2.0, 3.0, 3.375]
    assert data["settings"]["dropout"] == 0.1
    assert data["settings"]["tuning_seed"] not in data["settings"]["seeds"]
    starts = [[seed["curve"]["valid_loss"][0] for seed in entrant["seeds"]] for entrant in data["entrants"]]
    assert starts[0] == starts[1]
    assert starts[0][0] != starts[0][1]


def test_all_entrants_see_the_same_batches_and_dropout(reviews, tmp_path, monkeypatch):
    seen = defaultdict(list)
    real = Runner._session

    def watched(self, recipe, folder):
        session = real(self, recipe, folder)
        key = folder.parent.name, recipe.run.seed
        weights = [parameter.detach().clone() for parameter in session.model.parameters()]
        feed = session.feed
        session.feed = lambda step: seen[key].append((step, feed(step), torch.get_rng_state())) or feed(step)
        seen[key].append(weights)
        return session

    monkeypatch.setattr(Runner, "_session", watched)
    run(reviews, tmp_path, "adamw,sgd,sgd:lr=0.3", trials=0)
    for seed in (0, 1):
        first, *others = (seen[name, seed] for name in ("adamw", "sgd", "sgd-lr=0.3"))
        assert [step for step, _, _ in first[1:]] == [0, 1, 2, 3]
        for other in others:
            assert all(map(torch.equal, first[0], other[0]))
            for (step, batches, noise), (its_step, its_batches, its_noise) in zip(first[1:], other[1:], strict=True):
                assert step == its_step
                assert torch.equal(noise, its_noise)
                for batch, its_batch in zip(batches, its_batches, strict=True):
                    assert torch.equal(batch.targets, its_batch.targets)
                    assert all(torch.equal(batch.inputs[key], its_batch.inputs[key]) for key in batch.inputs)
    assert not torch.equal(seen["sgd", 0][1][1][0].targets, seen["sgd", 1][1][1][0].targets)


def test_the_data_are_read_once(reviews, tmp_path, monkeypatch):
    calls = []
    real = open_contest.__globals__["read_examples"]
    monkeypatch.setitem(open_contest.__globals__, "read_examples", lambda *given: calls.append(1) or real(*given))
    run(reviews, tmp_path, trials=0)
    assert len(calls) == 1


def contest_of(source, optimizers, **options):
    question = ask([source], Options({**SMALL, **options}), optimizers=optimizers)
    return open_contest(question, str(source), "reviews", lambda sentence: None)


def test_methods_that_look_at_curvature_get_no_objective_of_their_own(reviews):
    contest = contest_of(reviews, "adamw,newton,lbfgs")
    recipes = contest.recipes.values()
    assert {recipe.model.dropout for recipe in recipes} == {0.0}
    assert {recipe.training.l2 for recipe in recipes} == {1e-4}
    assert {recipe.training.batch_size for recipe in contest_of(reviews, "adamw,newton").recipes.values()} == {32}
    assert "for all entrants dropout is 0 and the penalty --l2 is 0.0001" in contest.notes[0]
    assert "newton and lbfgs take all data" in contest.notes[0]
    given = contest_of(reviews, "adamw,newton", l2=0.01, dropout=0.2).recipes.values()
    assert {(recipe.training.l2, recipe.model.dropout) for recipe in given} == {(0.01, 0.2)}
    alone = contest_of(reviews, "adamw,sgd")
    assert {(recipe.training.l2, recipe.model.dropout) for recipe in alone.recipes.values()} == {(0.0, 0.1)}
    assert not alone.notes


def test_a_step_on_all_data_counts_as_many_evaluations_as_it_holds(reviews, tmp_path):
    found = run(reviews, tmp_path, "sgd,sgd:batch_size=full,gradient:batch_size=full", trials=0, seeds=1)
    entrants = found.result["data"][0]["entrants"]
    rows = found.result["data"][0]["settings"]
    assert rows["model"] == "mlp"
    ends = [entrant["seeds"][0]["curve"]["evaluations"][-1] for entrant in entrants]
    assert ends[0] == 4 - (32 - 108 % 32) / 32  # the last batch of the epoch is smaller
    assert ends[1] == pytest.approx(4 * 108 / 32)
    assert ends[2] > 4 * 108 / 32  # the line search looks at losses, too


def test_going_on_after_an_interruption_gives_the_same_figures(reviews, tmp_path, undisturbed):
    seen = []

    def stop(event):
        seen.append(event["event"])
        if seen.count("run") == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(reviews, tmp_path, watch=stop)
    assert not (tmp_path / "compare-reviews" / "compare.json").exists()
    said, events = [], []
    again = run(reviews, tmp_path, say=said.append, watch=lambda event: events.append(event["event"]))
    assert any("Going on with" in sentence for sentence in said)
    assert events.count("run") == 8 - 5
    assert without_clock(again.result) == without_clock(undisturbed.result)


def test_more_seeds_and_trials_go_on_with_those_that_are_there(reviews, tmp_path):
    run(reviews, tmp_path, trials=0, seeds=1)
    events = []
    found = run(reviews, tmp_path, trials=0, seeds=3, watch=events.append)
    assert sum(event["event"] == "run" for event in events) == 4
    assert [row["seeds"] for row in found.rows] == [3, 3]
    assert found.folder == tmp_path / "compare-reviews"
    other = run(reviews, tmp_path, trials=0, seeds=1, lr=0.5)
    assert other.folder == tmp_path / "compare-reviews-2"


def test_overwrite_starts_over_and_leaves_other_folders_alone(reviews, tmp_path):
    run(reviews, tmp_path, trials=0, seeds=1)
    events = []
    run(reviews, tmp_path, trials=0, seeds=1, overwrite=True, watch=events.append)
    assert sum(event["event"] == "run" for event in events) == 2
    (tmp_path / "compare-mine").mkdir()
    (tmp_path / "compare-mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is no comparison, so --overwrite leaves it alone"):
        run(reviews, tmp_path, trials=0, seeds=1, name="mine", overwrite=True)


def test_a_comparison_that_another_process_is_at_is_not_replaced(reviews, tmp_path):
    found = run(reviews, tmp_path, steps=1, trials=0, seeds=1)
    theirs = Ledger(str(found.folder / "study.log"), "compare-reviews", "x")
    theirs._owner = "elsewhere:4711"
    theirs.claim(theirs.study("reviews", "adamw", "seed"), "9", {}, {})
    with pytest.raises(HeldError, match="compare-reviews is being compared by process 4711; wait until that ends"):
        run(reviews, tmp_path, steps=1, trials=0, seeds=1, overwrite=True)
    assert (found.folder / "compare.json").is_file()
    (found.folder / "study.log").write_text("no journal")
    run(reviews, tmp_path, steps=1, trials=0, seeds=1, overwrite=True)


def test_what_a_killed_process_has_left_is_removed_and_the_folder_is_used(reviews, tmp_path):
    folder = tmp_path / "compare-reviews"
    folder.mkdir()
    left = [folder / f".{name}.0123abcd.thalweg-tmp" for name in ("question.json", "compare.html", "compare.json")]
    for path in left:
        path.write_text("half of")
    assert run(reviews, tmp_path, steps=1, trials=0, seeds=1).folder == folder
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("name", ["_find_folder", "write_file"])
def test_one_process_at_a_time_changes_the_folder(reviews, tmp_path, monkeypatch, name):
    real, seen = getattr(comparing, name), []

    def alone(*given):
        with pytest.raises(HeldError, match="is being compared by process"):
            Lock(tmp_path / "compare-reviews")
        seen.append(name)
        return real(*given)

    monkeypatch.setattr(comparing, name, alone)
    run(reviews, tmp_path, steps=1, trials=0, seeds=1)
    assert seen


@pytest.mark.slow
def test_a_second_process_joins_in(reviews, tmp_path, undisturbed):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    given = {**FEW, "storage": storage, "name": "reviews", "optimizers": "adamw,sgd"}
    where = str(tmp_path / "other")
    code = (
        f"import thalweg\n"
        f"events = []\n"
        f"thalweg.compare({str(reviews)!r}, out={where!r}, watch=events.append, **{given!r})\n"
        f"print(sum(event['event'] == 'run' for event in events))\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    events = []
    ours = compare(reviews, out=tmp_path / "ours", watch=events.append, **given)
    printed, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    assert sum(event["event"] == "run" for event in events) + int(printed) == 8
    theirs = json.loads((tmp_path / "other" / "compare-reviews" / "compare.json").read_text())
    assert theirs == ours.result
    assert without_clock(theirs) == without_clock(undisturbed.result)


def test_waiting_for_another_process_is_said(reviews, tmp_path, monkeypatch):
    """Its run ends while we wait."""
    question = ask([reviews], Options(SMALL), optimizers="sgd,adamw", steps=2, trials=0, seeds=1, out=tmp_path)
    ledger = Ledger(str(tmp_path / "study.log"), "compare-reviews", "x")
    contest = open_contest(question, str(reviews), "reviews", lambda sentence: None)
    task, _ = contest.read(contest.recipes["sgd"])
    runner = Runner(contest, tmp_path, "valid", "loss", metric_of(task), unit_of(contest))
    events = []
    ours = rounds.Rounds(question, contest, runner.train, runner.pace, ledger, ("loss", "lower"), events.append)
    ours.tune()
    other = Ledger(str(tmp_path / "study.log"), "compare-reviews", "x")
    other._owner = "elsewhere:1"
    place = f"0:{rounds._digest({})}"
    claim = other.claim(other.study("reviews", "sgd", "seed"), place, {}, {})
    record = runner.train(question.entrants[0], {}, 0, ours.limit(question.entrants[0]), lambda entry: None)
    monkeypatch.setattr(rounds.time, "sleep", lambda seconds: claim.finish(1.0, record))
    ours.decide()
    assert [event["event"] for event in events if event["event"] in ("run", "waiting")] == ["run", "waiting"]
    assert ours.seeds["sgd"][0]["loss"] == record["loss"]


def test_an_optimizer_that_is_chosen_keeps_what_is_equal_and_pays_for_the_choice(reviews, tmp_path, monkeypatch):
    real = Contest.recipe

    def slow(self, entrant, *arguments):
        begin = time.process_time()
        while entrant.name == "auto" and time.process_time() < begin + 0.3:
            pass
        return real(self, entrant, *arguments)

    monkeypatch.setattr(Contest, "recipe", slow)
    found = run(reviews, tmp_path, "adamw,auto", l2=0.01, dropout=0.2)
    named, chosen = found.result["data"][0]["entrants"]
    assert not chosen["trials"]
    assert [seed["seconds"] >= 0.3 for seed in (*named["seeds"], *chosen["seeds"])] == [False, False, True, True]
    recipe = read_recipe(found.folder / "runs" / "reviews" / "auto" / "seed-0" / "recipe.toml")
    assert recipe.training.optimizer != "auto"
    assert (recipe.training.l2, recipe.model.dropout, recipe.training.steps) == (0.01, 0.2, 4)
    assert recipe.training.batch_size == 32
    starts = [entrant["seeds"][0]["curve"]["valid_loss"][0] for entrant in (named, chosen)]
    assert starts[0] == starts[1]


def test_diverged_runs_count_as_the_worst(reviews, tmp_path):
    found = run(reviews, tmp_path, "sgd:lr=1e30:clip=0,adamw", trials=0, target=10.0)
    wild, tame = found.result["data"][0]["entrants"]
    assert [seed["diverged"] for seed in wild["seeds"]] == [True, True]
    assert all(seed["loss"] is None and seed["status"] == "NOT_FINITE" for seed in wild["seeds"])
    assert [seed["diverged"] for seed in tame["seeds"]] == [False, False]
    assert [row["name"] for row in found.rows] == ["adamw", "sgd:lr=1e30:clip=0"]
    assert found.rows[1]["diverged"] == 2
    assert found.rows[1]["loss"] is None


def test_all_trials_diverge_and_the_entrant_has_failed(reviews, tmp_path):
    found = run(reviews, tmp_path, "sgd:lr=1e30:clip=0,adamw")
    wild, tame = found.result["data"][0]["entrants"]
    assert len(wild["trials"]) == 2
    assert all(trial["diverged"] for trial in wild["trials"])
    assert wild["failed"].startswith("All 2 trials failed")
    assert not wild["seeds"]
    assert tame["seeds"]
    assert found.rows[-1]["failed"]


def test_an_entrant_that_cannot_work_is_named_and_the_others_finish(reviews, tmp_path):
    found = run(reviews, tmp_path, "muon,adamw,sgd:oops=3", model="bag")
    failed = {row["name"]: row["failed"] for row in found.rows}
    assert failed["adamw"] == ""
    assert "this model has none" in failed["muon"]
    assert "takes no 'oops'" in failed["sgd:oops=3"]
    assert "only adamw has run" in found.sentence


OWN_OPTIMIZERS = """
import torch


class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=group["lr"])


class Refusal(Exception):
    pass


class Raises(Plain):
    def step(self):
        raise Refusal("not today")


class Gone(Plain):
    def step(self):
        raise OSError("a file of mine is gone")


class Idle(Plain):
    def step(self, closure=None):
        print("idle")


class Wild(Plain):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.fill_(float("nan"))
"""


@pytest.fixture
def own_optimizers(tmp_path, monkeypatch):
    (tmp_path / "own_optimizers.py").write_text(OWN_OPTIMIZERS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_optimizers", raising=False)
    return tmp_path / "runs"


def test_whatever_an_optimizer_of_one_s_own_does_is_its_own_result(reviews, own_optimizers):
    names = [f"own_optimizers.{name}" for name in ("Plain", "Raises", "Gone", "Idle", "Wild")]
    names = ["sgd:lr=0.01:momentum=0:clip=0", f"{names[0]}:lr=0.01:clip=0", *names[1:]]
    found = run(reviews, own_optimizers, names, trials=0)
    entrants = {one["name"].split(":")[0].split(".")[-1]: one for one in found.result["data"][0]["entrants"]}
    losses = {name: [seed["loss"] for seed in entrant["seeds"]] for name, entrant in entrants.items()}
    assert losses["Plain"] == pytest.approx(losses["sgd"], rel=1e-4)  # less a weight decay
    reasons = {
        "Raises": "raised Refusal (not today)",
        "Gone": "OSError: a file of mine",
        "Idle": "did not call its closure",
    }
    for name, why in reasons.items():
        assert why in entrants[name]["failed"]
        assert not entrants[name]["seeds"]  # it has not run, so nothing is said to be better than it
    assert [seed["status"] for seed in entrants["Wild"]["seeds"]] == ["NOT_FINITE", "NOT_FINITE"]
    assert not any("Raises" in pair["sentence"] for pair in found.result["data"][0]["pairs"])


def test_a_full_disk_is_told_and_is_nobody_s_result(reviews, tmp_path, monkeypatch):
    real = ledger.write_new

    def full(path, data):
        if "history.jsonl" in path.name and "sgd" in path.parent.parent.name:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(ledger, "write_new", full)
    with pytest.raises(OSError, match="No space left on device"):
        run(reviews, tmp_path)
    monkeypatch.undo()
    found = run(reviews, tmp_path)
    assert not any(row["failed"] or row["diverged"] for row in found.rows)


def test_a_storage_that_fails_in_the_middle_of_a_run_is_nobody_s_result(reviews, tmp_path, monkeypatch):
    def unreachable(self):
        raise InputError("The storage cannot be used.")

    monkeypatch.setattr(Claim, "beat", unreachable)
    with pytest.raises(InputError, match="The storage cannot be used"):
        run(reviews, tmp_path)
    monkeypatch.undo()
    assert not any(row["failed"] for row in run(reviews, tmp_path).rows)


def test_two_settings_of_one_optimizer_are_kept_apart(reviews, tmp_path):
    found = run(reviews, tmp_path, "sgd:lr=0.1,sgd:lr=0.2", trials=0)
    assert {row["name"] for row in found.rows} == {"sgd:lr=0.1", "sgd:lr=0.2"}
    losses = [seed["loss"] for entrant in found.result["data"][0]["entrants"] for seed in entrant["seeds"]]
    assert len(set(losses)) == 4


def test_a_data_set_that_fails_is_named_and_the_others_finish(reviews, tmp_path):
    other, said = write_reviews(tmp_path / "more.csv", seed=1), []
    found = compare(reviews, tmp_path / "none.csv", other, optimizers="adamw,sgd", out=tmp_path, say=said.append, **FEW)
    assert [data["failed"] != "" for data in found.result["data"]] == [False, True, False]
    assert any("none.csv is left out" in sentence for sentence in said)
    assert "none failed" in found.sentence
    assert {row["data"] for row in found.rows} == {"reviews", "more"}
    profiles = found.result["profiles"]
    assert profiles["entrants"] == ["adamw", "sgd"] or profiles["entrants"] == ["sgd", "adamw"]
    assert profiles["ratios"][0] == 1.0
    assert all(0.0 <= share <= 1.0 for shares in profiles["shares"].values() for share in shares)
    with pytest.raises(InputError, match=r"no-file\.csv"):
        compare(tmp_path / "no-file.csv", optimizers="adamw,sgd", out=tmp_path, **FEW)


def test_heads_are_compared_by_the_metric(tmp_path):
    given = {"width": 8, "hidden": 8, "steps": 2, "trials": 0, "seeds": 1, "target_width": 8, "model": "lstm"}
    found = compare("numbers", vary="head=softmax,vmf,contrastive", out=tmp_path, **given)
    (data,) = found.result["data"]
    assert (data["scored_by"], data["metric"], data["vary"]) == ("metric", "token_accuracy", "head")
    assert "Losses with another head are numbers of another kind" in data["notes"][0]
    assert not any(row["failed"] for row in found.rows)
    assert {pair["quantity"] for pair in data["pairs"]} >= {"metric"}
    assert "loss" not in {pair["quantity"] for pair in data["pairs"]}


@pytest.mark.parametrize("vary", ["skip=none,residual", "init=default,orthogonal", "clip=0,1", "model=bag,mlp"])
def test_other_options_are_compared_by_the_loss(vary, reviews, tmp_path):
    given = {key: value for key, value in SMALL.items() if key != vary.partition("=")[0]}
    found = compare(reviews, vary=vary, out=tmp_path, **given, steps=2, trials=2, seeds=1)
    (data,) = found.result["data"]
    assert data["scored_by"] == "loss"
    assert [len(entrant["trials"]) for entrant in data["entrants"]] == [2, 2]
    assert all("lr" in entrant["space"] for entrant in data["entrants"])


def test_a_budget_in_seconds_is_of_training_alone(reviews, tmp_path):
    found = run(reviews, tmp_path, "adamw,gradient", steps=None, budget=0.2, trials=1, seeds=1)
    (data,) = found.result["data"]
    assert data["budget"] == {"seconds": 0.2}
    scheduled, searching = (entrant["seeds"][0] for entrant in data["entrants"])
    assert 0.0 < scheduled["seconds"] < 0.4
    assert searching["seconds"] == pytest.approx(0.2, rel=0.5)
    assert searching["status"] in ("OUT_OF_TIME", "STATIONARY", "NO_PROGRESS", "NO_STEP")
    assert len(searching["curve"]["step"]) <= 31


def test_without_a_budget_all_runs_share_three_minutes(reviews, tmp_path, monkeypatch):
    paces = {"adamw": {"step": 0.01, "score": 0.1, "start": 1.0}, "sgd": {"step": 0.005, "score": 0.1, "start": 1.0}}
    question = ask([reviews], Options(SMALL), optimizers="adamw,sgd", trials=7, seeds=3, out=tmp_path)
    contest = open_contest(question, str(reviews), "reviews", lambda sentence: None)
    found = rounds.Rounds(question, contest, None, None, None, ("loss", "lower"), lambda event: None)
    monkeypatch.setattr(
        found, "_do", lambda jobs: {("pace", job.entrant.name): {"pace": paces[job.entrant.name]} for job in jobs}
    )
    found.measure_paces()
    assert found.seconds == 5.0  # 20 runs, each with 1 s before it and 30 scores of 0.1 s
    limits = [found.limit(entrant) for entrant in question.entrants]
    assert [limit.steps for limit in limits] == [500, 1000]
    assert limits[0].seconds == pytest.approx(5.5)
    found.trials["adamw"] = [{"steps": 100, "seconds": 2.0, "diverged": False}]
    assert found.limit(question.entrants[0]).steps == 250


def test_a_budget_too_short_for_a_step_is_told(reviews, tmp_path):
    with pytest.raises(InputError, match=r"One step of adamw takes .* s, more than the 1e-06 s that a run has; give a"):
        run(reviews, tmp_path, steps=None, budget=1e-6)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"optimizers": "adamw,sopa"}, "There is no optimizer 'sopa'"),
        ({"optimizers": "adamw,pytorch_optimizer.SOAPP"}, "such as SOAP"),
        ({"optimizers": "adamw,sgd", "vary": "skip=none"}, "Give --optimizers or --vary, not both"),
        ({"optimizers": "adamw", "optimizer": "sgd"}, "--optimizer is what is compared; leave it out"),
        ({"vary": "seed=1,2"}, "--vary seed is not possible"),
        ({"optimizers": "adamw", "epochs": 3}, "--epochs is not for comparisons"),
        ({"optimizers": "adamw", "steps": 0}, "--steps must lie between 1 and 1,000,000,000; got 0"),
        ({"optimizers": "adamw", "steps": 2**63}, "--steps must lie between 1 and 1,000,000,000; got 92"),
        ({"optimizers": "adamw", "trials": 10**12}, "--trials must lie between 0 and 10,000; got 1000000000000"),
        ({"optimizers": "adamw", "seeds": 10**5000}, "--seeds must lie between 1 and 1,000; got a very long int"),
        ({"optimizers": "adamw", "budget": float("inf")}, "--budget must be above zero, .* seconds; got inf"),
        ({"optimizers": "adamw", "budget": float("nan")}, "--budget must be above zero, .* seconds; got nan"),
        ({"optimizers": "adamw", "target": float("nan")}, "--target must be a finite number; got nan"),
        ({"optimizers": "adamw", "trials": -1}, "--trials must lie between 0"),
        ({"optimizers": "adamw", "seeds": 0}, "--seeds must lie between 1"),
        ({"optimizers": "adamw", "budget": 0.0}, "--budget must be above zero"),
        ({"optimizers": "adamw", "budget": 5.0, "steps": 5}, "not both"),
        ({"optimizers": "adamw", "scored_on": "test"}, "--scored-on must be valid or train"),
        ({"optimizers": "adamw", "storage": "nodb://x"}, "The storage nodb://x cannot be used"),
        ({"optimizers": "adamw", "nonsense": 1}, "There is no option 'nonsense'"),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_runs(changes, match, reviews, tmp_path):
    with pytest.raises(InputError, match=match):
        compare(reviews, out=tmp_path, **changes)


def test_entrants_have_folders_of_their_own(reviews, tmp_path):
    given = {**SMALL, "steps": 1, "trials": 0, "seeds": 1}
    run_ = compare(reviews, optimizers=["sgd:label='a b'", "sgd:lr=1:label='a-b'"], out=tmp_path, **given)
    assert {path.name for path in (run_.folder / "runs" / "reviews").iterdir()} == {"a-b", "a-b-2"}


def test_a_recipe_is_no_data(tmp_path):
    with pytest.raises(InputError, match=r"recipe\.toml is a recipe, which leaves nothing open"):
        compare(tmp_path / "recipe.toml", optimizers="adamw,sgd", out=tmp_path)


def test_the_same_data_twice_is_told(reviews, tmp_path):
    with pytest.raises(InputError, match="same data are given twice"):
        compare(reviews, reviews, optimizers="adamw,sgd", out=tmp_path)


def test_the_question_is_told_apart_by_all_that_figures_depend_on(reviews, tmp_path):
    base = ask([reviews], Options(SMALL), optimizers="adamw,sgd", steps=5, out=tmp_path)
    same = [base.with_(trials=3), base.with_(num_seeds=9), base.with_(target=0.1), base.with_(storage="x.log")]
    other = [base.with_(steps=6), base.with_(scored_on="train"), base.with_(entrants=base.entrants[:1])]
    other += [base.with_(options=base.options.with_(seed=1))]
    assert len({question.digest({}) for question in [base, *same]}) == 1
    assert len({question.digest({}) for question in [base, *other]}) == 5
    assert base.digest({str(reviews): "a"}) != base.digest({str(reviews): "b"})


def test_files_that_options_name_are_part_of_the_question(reviews, tmp_path):
    valid = tmp_path / "valid.csv"
    valid.write_text("text,label\ngood,a\n", encoding="utf-8")
    question = ask([reviews], Options({**SMALL, "valid": str(valid)}), optimizers="adamw,sgd", steps=5, out=tmp_path)
    before = question.digest(checksums(question))
    assert before == question.digest(checksums(question))
    valid.write_text("text,label\nbad,b\n", encoding="utf-8")
    assert before != question.digest(checksums(question))


def test_the_sunspots_have_a_study_of_their_own(tmp_path):
    found = compare("sunspots", steps=3, seeds=2, out=tmp_path)
    (data,) = found.result["data"]
    assert data["scored_on"] == "train"
    assert data["model"] == "mlp"
    assert len(found.rows) == 10
    assert not any(row["failed"] for row in found.rows)
    assert {row["trials"] for row in found.rows} == {0}
    starts = {entrant["seeds"][0]["curve"]["valid_loss"][0] for entrant in data["entrants"]}
    assert len(starts) == 1
    question = ask(["sunspots"], Options(), out=tmp_path)
    assert (question.steps, question.num_seeds, question.options["hidden"]) == (100, 20, 5)
    assert ask(["sunspots"], Options(hidden=7)).options["hidden"] == 7
    assert ask(["sunspots"], Options(), optimizers="adamw").num_seeds == 3


def test_an_answer_is_not_changed_by_asking_again(undisturbed, reviews):
    before = copy.deepcopy(undisturbed.result)
    question = ask(
        [reviews], Options(SMALL), optimizers="adamw,sgd", steps=4, trials=2, seeds=2, out=undisturbed.folder.parent
    )
    events = []
    assert answer(question, lambda sentence: None, events.append).result == before
    assert not [event for event in events if event["event"] == "run"]
    assert math.isfinite(before["rows"][0]["loss"])
