"""Optimizers, schedules and clipping of a recipe: they train, resume, and say what they cannot do."""

import os
import signal

import pytest
import torch
from reviews import session_for
from safetensors.torch import load_file

from thalweg import names
from thalweg.errors import InputError
from thalweg.optim.construct import optimizer_names
from thalweg.optim.descent import Descent
from thalweg.optim.polar import Exact, Polynomial
from thalweg.training.folder import build
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train
from thalweg.training.session.loop import train as train_loop
from thalweg.training.session.prepare import Request, prepare

COMPOSED = [
    ("gradient", ""), ("bfgs", ""), ("lbfgs", "wolfe"), ("newton", ""), ("newton", "trust-region"), ("newton-cg", ""),
    ("levenberg-marquardt", ""), ("adamw", "armijo"), ("sgd", "stochastic"), ("adam", "none"),
]  # fmt: skip


def composed_session(out, optimizer, line_search, **options):
    given = {"source": "sunspots", "optimizer": optimizer, "width": 6, "hidden": 6, "epochs": 8.0, **options}
    if line_search:
        given["line_search"] = line_search
    return prepare(Request(Options(given), out), lambda sentence: None)


@pytest.mark.parametrize(("optimizer", "line_search"), COMPOSED)
def test_it_trains_and_an_interrupted_run_ends_with_the_same_bits(tmp_path, optimizer, line_search):
    options = {"precision": "float64", "batch_size": 0}
    whole = composed_session(tmp_path / "whole", optimizer, line_search, **options)
    assert isinstance(whole.optimizer, Descent)
    entries = [entry for entry in train_loop(whole) if entry["event"] == "step"]
    assert entries[-1]["loss"] < 0.8 * entries[0]["loss"]
    with composed_session(tmp_path / "cut", optimizer, line_search, **options) as cut:
        for entry in train_loop(cut):
            if entry["event"] == "step" and entry["step"] == 3:
                os.kill(os.getpid(), signal.SIGINT)
    again = composed_session(tmp_path / "cut", optimizer, line_search, **options)
    assert [entry["event"] for entry in train_loop(again)].index("resumed") == 0
    left, right = (load_file(s.run.folder / "model.safetensors") for s in (whole, again))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_second_order_methods_get_what_they_need_by_default(tmp_path):
    recipe = composed_session(tmp_path, "newton-cg", "").run.recipe
    assert (recipe.training.batch_size, recipe.model.dropout, recipe.training.schedule) == (0, 0.0, "constant")
    assert recipe.training.line_search == "armijo"
    again = train(tmp_path / "sunspots" / "recipe.toml", out=tmp_path / "again")
    assert again.recipe.training.line_search == "armijo"


def test_a_plain_name_of_torch_stays_torchs_own(tmp_path):
    assert type(composed_session(tmp_path, "lbfgs", "").optimizer) is torch.optim.LBFGS


REFUSED = {
    "dense matrix too large": ("docstrings", {"optimizer": "newton"}, r"dense matrix of .* takes .*TB.*NewtonCG"),
    "jacobian too large": ("docstrings", {"optimizer": "levenberg-marquardt"}, r"dense matrix .* takes .*NewtonCG"),
    "no model for a trust region": (
        "sunspots", {"optimizer": "adamw", "line_search": "trust-region"}, "quadratic model"
    ),
    "dropout": ("sunspots", {"optimizer": "newton-cg", "dropout": 0.5, "layers": 2}, "dropout"),
    "weight decay": ("sunspots", {"optimizer": "bfgs", "weight_decay": 0.1}, "use --l2"),
    "unknown option": ("sunspots", {"optimizer": "bfgs", "optimizer_options": {"memory": 3}}, "memory"),
    "unknown line search": ("sunspots", {"optimizer": "bfgs", "line_search": "wolf"}, "Did you mean 'wolfe'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_and_leaves_nothing(tmp_path, case):
    source, options, message = REFUSED[case]
    out = tmp_path / "runs"
    with pytest.raises(InputError, match=message):
        train(source, out=out, **options)
    assert not out.exists()


def test_a_refused_run_does_not_destroy_the_one_it_was_to_replace(tmp_path):
    first = train("sunspots", out=tmp_path, steps=5)
    weights = (first.folder / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="use --l2"):
        train("sunspots", out=tmp_path, overwrite=True, optimizer="bfgs", weight_decay=0.1)
    with pytest.raises(InputError, match="dropout"):
        train("sunspots", out=tmp_path, overwrite=True, optimizer="newton-cg", dropout=0.5, layers=2)
    assert Run(first.folder).finished
    assert (first.folder / "model.safetensors").read_bytes() == weights
    assert [path.name for path in tmp_path.iterdir()] == ["sunspots"]


def test_a_run_with_nothing_left_to_descend_ends_by_itself(tmp_path):
    session = composed_session(tmp_path, "gradient", "armijo", batch_size=0, epochs=50.0)
    events = []
    for entry in train_loop(session):
        events.append(entry)
        if entry["event"] == "step" and entry["step"] == 4:  # from here on the loss is flat
            session.head.requires_grad_(False)
            session.model.requires_grad_(False)
            for parameter in session.optimizer.param_groups[0]["params"]:
                parameter.requires_grad_(True)
                parameter.register_hook(torch.zeros_like)
    assert [entry.get("status") for entry in events if entry["event"] == "step"][4:] == ["NO_STEP"] * 3
    assert events[-1]["status"] == "NO_STEP"
    assert events[-2]["event"] == "evaluation"


def test_every_method_and_line_search_is_a_name_that_leads_somewhere():
    for table in (names.METHODS, names.LINE_SEARCHES):
        for name in table:
            assert callable(names.find(table, name, "method"))


@pytest.mark.parametrize("name", sorted(optimizer_names()))
def test_every_optimizer_of_torch_and_of_this_library_is_there_by_name(reviews, tmp_path, name):
    model = {"muon": "mlp"}.get(name, "bag")
    if name == "sparseadam":
        with pytest.raises(InputError, match="parse"):
            session_for(reviews, tmp_path, model=model, optimizer=name)
        return
    session = session_for(reviews, tmp_path, model=model, optimizer=name)
    before = build.get_weights(session.model, session.head)["head.output.weight"].clone()
    entries = list(train_loop(session))
    assert entries[-1]["status"] == "COMPLETED"
    assert not any(entry["event"] == "rejected" for entry in entries)
    assert not torch.equal(build.get_weights(session.model, session.head)["head.output.weight"], before)


def test_the_polar_factor_is_chosen_by_name(reviews, tmp_path):
    options = {"model": "mlp", "optimizer": "normuon"}
    for given, expected in (("newton-schulz", Polynomial()), ({"name": "exact", "floor": 0.01}, Exact(0.01))):
        session = session_for(reviews, tmp_path, name="a", optimizer_options={"polar": given}, **options)
        assert session.optimizer.polar == expected
    with pytest.raises(InputError, match=r"There is no polar 'exat'.*Did you mean 'exact'"):
        session_for(reviews, tmp_path, name="b", optimizer_options={"polar": "exat"}, **options)
    with pytest.raises(InputError, match=r"There is no optimizer 'normoun'.*Did you mean 'normuon'"):
        session_for(reviews, tmp_path, name="b", optimizer="normoun")


def test_an_optimizer_by_its_import_path(reviews, tmp_path):
    session = session_for(reviews, tmp_path, optimizer="pytorch_optimizer.SOAP", model="mlp")
    assert list(train_loop(session))[-1]["status"] == "COMPLETED"
    assert "SOAP" in repr(type(session.optimizer)) or "SOAP" in repr(vars(session.optimizer))


def test_every_schedule_is_there_by_name(reviews, tmp_path):
    for name in names.SCHEDULES:
        needed = {"min_lr": 1e-4} if "min_lr" in name else {}
        session = session_for(reviews, tmp_path, schedule=name, schedule_options=needed, warmup=2.0, lr=0.01, name=name)
        rates = [entry["lr"] for entry in train_loop(session) if entry["event"] == "step"]
        assert len(rates) == 6
        if name not in {"constant", *names.SCORED_SCHEDULES}:
            assert rates[0] == pytest.approx(0.005), name
            assert rates[1] == pytest.approx(0.01), name
        assert max(rates) <= 0.01 * (1 + 1e-9), name


@pytest.mark.parametrize("name", ["greedy", "reduce_lr_on_plateau"])
def test_schedules_that_follow_the_score_are_given_it(reviews, tmp_path, name):
    options = {"patience": 0, "factor": 0.5, "min_lr": 1e-4}
    more = {"schedule": name, "schedule_options": options, "lr": 0.01, "evaluate_every": 1}
    session = session_for(reviews, tmp_path, name=name, **more)
    entries = list(train_loop(session))
    scores = [entry["metrics"][session.task.selects_by[0]] for entry in entries if entry["event"] == "evaluation"]
    sgd = torch.optim.SGD([torch.zeros(1)], lr=0.01)
    alone = names.find(names.SCHEDULES, name, "schedule")(sgd, mode="max", **options)  # accuracy should rise
    expected = []
    for score in scores:
        expected.append(sgd.param_groups[0]["lr"])
        alone.step(score)
    assert [entry["lr"] for entry in entries if entry["event"] == "step"] == pytest.approx(expected)
    assert len(set(expected)) > 2


def test_a_schedule_that_needs_a_number_says_which(reviews, tmp_path):
    with pytest.raises(InputError, match=r"--schedule cosine_with_min_lr is invalid.*either min_lr or min_lr_rate"):
        session_for(reviews, tmp_path, schedule="cosine_with_min_lr")


def test_clipping_options_compose(reviews, tmp_path):
    plain = session_for(reviews, tmp_path / "a", clip=0.0)
    assert not any(entry["clipped"] for entry in train_loop(plain) if entry["event"] == "step")
    all_kinds = session_for(reviews, tmp_path / "b", clip=1e-4, clip_value=1.0, clip_adaptive=0.1, clip_update=1e-5)
    before = build.get_weights(all_kinds.model, all_kinds.head)
    before = {name: tensor.clone() for name, tensor in before.items()}
    entries = [entry for entry in train_loop(all_kinds) if entry["event"] == "step"]
    assert all(entry["clipped"] for entry in entries)
    after = build.get_weights(all_kinds.model, all_kinds.head)
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0.0 < moved <= 6 * 1e-5 * 1.01


def test_l2_and_weight_decay_are_different_things(reviews, tmp_path):
    """L2 is in the loss that is reported; decoupled decay is not."""
    plain = session_for(reviews, tmp_path / "a", weight_decay=0.0)
    decayed = session_for(reviews, tmp_path / "b", weight_decay=0.5)
    penalized = session_for(reviews, tmp_path / "c", weight_decay=0.0, l2=0.5)
    first = [next(e for e in train_loop(s) if e["event"] == "step")["loss"] for s in (plain, decayed, penalized)]
    assert first[0] == first[1]
    session = session_for(reviews, tmp_path / "d")
    weights = [p for m in (session.model, session.head) for p in m.parameters() if p.dim() >= 2]
    penalty = 0.25 * sum(float(w.detach().square().sum()) for w in weights)
    assert first[2] == pytest.approx(first[0] + penalty, rel=1e-5)


def test_decoupled_decay_shrinks_the_matrices_beside_the_step(reviews, tmp_path):
    """After one step of AdamW the weights differ by lr * decay * w; embeddings and biases not at all."""
    options = {"model": "mlp", "steps": 1, "schedule": "constant", "lr": 0.01, "precision": "float64", "dropout": 0.0}
    plain = session_for(reviews, tmp_path / "a", weight_decay=0.0, **options)
    decayed = session_for(reviews, tmp_path / "b", weight_decay=0.5, **options)
    start = {name: tensor.clone() for name, tensor in build.get_weights(plain.model, plain.head).items()}
    for session in (plain, decayed):
        list(train_loop(session))
    a, b = (build.get_weights(session.model, session.head) for session in (plain, decayed))
    shrunk = {name for name in start if not torch.equal(a[name], b[name])}
    assert shrunk == {name for name in start if start[name].dim() == 2 and "embedding" not in name}
    assert len(shrunk) == 2
    for name in shrunk:
        torch.testing.assert_close(a[name] - b[name], 0.01 * 0.5 * start[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("average", ["schedule-free", "ema"])
def test_the_average_is_evaluated_and_saved_and_an_interrupted_run_ends_with_the_same_bits(tmp_path, average):
    options = {"average": average, "epochs": 4.0, "batch_size": 64}
    whole = composed_session(tmp_path / "whole", "adamw", "", **options)
    figures = [entry["loss"] for entry in train_loop(whole) if entry["event"] == "evaluation"]
    assert whole.run.recipe.training.schedule == ("cosine" if average == "ema" else "constant_with_warmup")
    saved, trained = load_file(whole.run.folder / "model.safetensors"), build.get_weights(whole.model, whole.head)
    with whole.optimizer.averaged():
        averages = {name: tensor.clone() for name, tensor in build.get_weights(whole.model, whole.head).items()}
        assert whole.score.best_step == whole.place.step
        assert whole.evaluate().loss == pytest.approx(figures[-1])
    assert all(torch.equal(saved[name], averages[name]) for name in saved)
    assert not all(torch.equal(saved[name], trained[name]) for name in saved)
    with composed_session(tmp_path / "cut", "adamw", "", **options) as cut:
        for entry in train_loop(cut):
            if entry["event"] == "step" and entry["step"] == 3:
                os.kill(os.getpid(), signal.SIGINT)
    again = composed_session(tmp_path / "cut", "adamw", "", **options)
    assert [entry["event"] for entry in train_loop(again)].index("resumed") == 0
    resumed = load_file(again.run.folder / "model.safetensors")
    assert all(torch.equal(saved[name], resumed[name]) for name in saved)


def test_schedule_free_takes_the_place_of_adams_momentum(tmp_path):
    session = composed_session(tmp_path / "a", "adamw", "", average="schedule-free")
    assert session.optimizer.param_groups[0]["betas"] == (0.0, 0.999)
    given = {"average": "schedule-free", "optimizer_options": {"betas": [0.5, 0.9]}}
    assert composed_session(tmp_path / "b", "adamw", "", **given).optimizer.param_groups[0]["betas"] == (0.5, 0.9)


@pytest.mark.parametrize(("optimizer", "line_search"), [("adamw", "armijo"), ("newton-cg", ""), ("lbfgs", "")])
def test_an_average_beside_a_search_is_refused(tmp_path, optimizer, line_search):
    with pytest.raises(InputError, match="--average ema is for optimizers that make one step from one gradient"):
        composed_session(tmp_path, optimizer, line_search, average="ema")
