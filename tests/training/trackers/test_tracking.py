"""Trackers: what they get of a run, from beginning to end and over a resume; event files are read byte by byte."""

import contextlib
import struct
import sys
import types

import pytest
from reviews import write_reviews
from tensorboardX.proto.event_pb2 import Event, SessionLog

import thalweg
from thalweg import InputError, load, names
from thalweg.cli.main import run as command_line
from thalweg.training.trackers import tracking

OPTIONS = {"task": "classify", "model": "linear", "optimizer": "adamw", "batch_size": 50, "name": "x"}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


def events_in(folder):
    """Every event of every file, in the order in which they were written."""
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (size,) = struct.unpack("<Q", content[place : place + 8])
            yield Event.FromString(content[place + 12 : place + 12 + size])
            place += size + 16


def scalars_in(folder):
    """As TensorBoard shows them: where a session begins, what was of its step or a later one before is void."""
    found = {}
    for event in events_in(folder):
        if event.session_log.status == SessionLog.START:
            for series in found.values():
                series[:] = [pair for pair in series if pair[0] < event.step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def train(reviews, folder, **options):
    return thalweg.train(reviews, out=folder, **{**OPTIONS, **options})


def test_tensorboard_has_what_the_history_has(reviews, tmp_path):
    run = train(reviews, tmp_path, log=("tensorboard",), steps=6, evaluate_every=3)
    found = scalars_in(run.folder / "tensorboard")
    steps = [entry for entry in run.history if entry["event"] == "step"]
    evaluations = [entry for entry in run.history if entry["event"] == "evaluation"]
    for name in ("loss", "lr", "grad_norm"):
        assert found[f"train/{name}"] == [(e["step"], pytest.approx(e[name], rel=1e-6)) for e in steps]
    assert found["valid/loss"] == [(e["step"], pytest.approx(e["loss"], rel=1e-6)) for e in evaluations]
    assert [step for step, _ in found["valid/accuracy"]] == [3, 6]
    assert found["final/accuracy"] == [(6, pytest.approx(run.metrics["accuracy"], rel=1e-6))]
    plugins = [v.metadata.plugin_data for e in events_in(run.folder / "tensorboard") for v in e.summary.value]
    assert any(b"batch_size" in plugin.content for plugin in plugins if plugin.plugin_name == "hparams")


def test_a_log_changes_no_weights_and_makes_no_other_run(reviews, tmp_path):
    plain, logged = (
        train(reviews, tmp_path / name, steps=4, log=log) for name, log in [("a", ()), ("b", ("tensorboard",))]
    )
    assert (plain.folder / "model.safetensors").read_bytes() == (logged.folder / "model.safetensors").read_bytes()


class KilledError(Exception):
    pass


def kill_at(step):
    def watch(entry):
        if entry["event"] == "step" and entry["step"] == step:
            raise KilledError

    return watch


def killed(reviews, folder, monkeypatch, **options):
    """A run that ends after step 7 without a word, with its newest checkpoint at step 4."""
    with monkeypatch.context() as patched:
        patched.setattr("thalweg.training.session.loop._Saves.after_error", lambda self, error, pending: None)
        with pytest.raises(KilledError):
            train(reviews, folder, steps=10, evaluate_every=4, checkpoint_every=0.0, watch=kill_at(7), **options)


def test_a_run_that_goes_on_goes_on_in_the_same_log(reviews, tmp_path, monkeypatch):
    killed(reviews, tmp_path, monkeypatch, log=("tensorboard",))
    before = scalars_in(tmp_path / "x" / "tensorboard")
    assert [step for step, _ in before["train/loss"]][-1] > 4
    run = train(reviews, tmp_path, steps=10, evaluate_every=4, checkpoint_every=0.0, log=("tensorboard",))
    found = scalars_in(run.folder / "tensorboard")
    assert [step for step, _ in found["train/loss"]] == [*range(1, 11)]
    assert [step for step, _ in found["valid/loss"]] == [4, 8, 10]


def test_another_log_is_no_other_run(reviews, tmp_path, monkeypatch):
    killed(reviews, tmp_path, monkeypatch)
    run = train(reviews, tmp_path, steps=10, evaluate_every=4, checkpoint_every=0.0, log=("tensorboard",))
    assert run.folder.name == "x"
    assert load(run.folder).recipe.training.log == ("tensorboard",)
    assert [step for step, _ in scalars_in(run.folder / "tensorboard")["train/loss"]] == [*range(5, 11)]


@pytest.mark.parametrize(
    ("name", "message"),
    [("mlflw", "There is no tracker 'mlflw'; expected one of tensorboard, wandb, mlflow. Did you mean 'mlflow'?"),
     ("wandb", "--log wandb needs the package wandb: pip install wandb, or leave it out.")],
)  # fmt: skip
def test_what_cannot_be_logged_to_is_told_before_the_training(reviews, tmp_path, monkeypatch, capsys, name, message):
    real = tracking.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None if package == "wandb" else real(package))
    with pytest.raises(SystemExit, match="2"):
        command_line(["train", str(reviews), "--out", str(tmp_path), "--log", f"tensorboard,{name}"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("moment", ["open", "log", "close"])
def test_a_tracker_that_fails_stops_no_training(reviews, tmp_path, monkeypatch, moment):
    def fail(*given):
        raise OSError("the server\nis gone")

    said = []
    kind = names.load(names.TRACKERS["tensorboard"])
    monkeypatch.setattr(kind, moment, fail)
    run = train(reviews, tmp_path, steps=4, log=("tensorboard",), say=said.append)
    assert run.status.name == "COMPLETED"
    told = [sentence for sentence in said if sentence.startswith("--log tensorboard has failed")]
    assert told == ["--log tensorboard has failed, and gets no more figures; training goes on (the server is gone)."]


class FakeWandb(types.ModuleType):
    """`wandb` as far as it is used: steps below the last one are dropped, as the real one does."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = types.SimpleNamespace()
        self.runs, self.calls = {}, []

    def init(self, **given):
        self.calls.append(given)
        run = self.runs.setdefault(
            given.get("id") or "k3y", types.SimpleNamespace(step=0, logged=[], summary={}, ended=[])
        )
        run.id = given.get("id") or "k3y"

        def log(figures, step):
            run.logged.append((step, figures))
            run.step = step + 1

        run.log, run.finish = log, lambda exit_code: run.ended.append(exit_code)
        return run


def test_wandb_gets_one_run_over_a_resume(reviews, tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    killed(reviews, tmp_path, monkeypatch, log=("wandb",))
    train(reviews, tmp_path, steps=10, evaluate_every=4, checkpoint_every=0.0, log=("wandb",))
    first, second = fake.calls
    assert (first["name"], first["config"]["batch_size"], "id" in first) == ("x", 50, False)
    assert (second["id"], second["resume"]) == ("k3y", "allow")
    (run,) = fake.runs.values()
    assert [step for step, figures in run.logged if "train/loss" in figures] == [*range(1, 11)]
    assert run.ended == [1, 0]
    assert run.summary.keys() >= {"final/loss", "final/accuracy"}


class FakeMLflow(types.ModuleType):
    """`mlflow` and its client as far as they are used."""

    def __init__(self):
        super().__init__("mlflow")
        self.__spec__ = types.SimpleNamespace()
        self.params, self.metrics, self.states, self.names = {}, [], [], []
        self.set_experiment = self.names.append
        self.log_params = self.params.update
        self.tracking = types.ModuleType("mlflow.tracking")
        self.tracking.MlflowClient = lambda: self

    def start_run(self, run_name):
        self.names.append(run_name)
        run = types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))
        return contextlib.nullcontext(run)

    def log_metric(self, identity, name, value, step):
        assert identity == "abc"
        self.metrics.append((name, step, value))

    def get_metric_history(self, identity, name):
        return [types.SimpleNamespace(step=step) for key, step, _ in self.metrics if key == name]

    def update_run(self, identity, status):
        self.states.append(status)

    def set_terminated(self, identity, status):
        self.states.append(status)


def test_mlflow_gets_one_run_over_a_resume(reviews, tmp_path, monkeypatch):
    fake = FakeMLflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", fake.tracking)
    killed(reviews, tmp_path, monkeypatch, log=("mlflow",))
    train(reviews, tmp_path, steps=10, evaluate_every=4, checkpoint_every=0.0, log=("mlflow",))
    assert fake.names == ["thalweg", "x"]
    assert fake.params["optimizer"] == "adamw"
    assert [step for name, step, _ in fake.metrics if name == "train/loss"] == [*range(1, 11)]
    assert [name for name, *_ in fake.metrics if name.startswith("final/")]
    assert fake.states == ["RUNNING", "FAILED", "RUNNING", "FINISHED"]


def test_steps_that_come_again_are_void(tmp_path):
    kind = names.load(names.TRACKERS["tensorboard"])
    tracker = kind.open(tracking.About(tmp_path, {}))
    for step in (1, 2, 3):
        tracker.log(step, {"train/loss": float(step)})
    tracker.go_back(1)
    tracker.log(2, {"train/loss": 20.0})
    tracker.close(2, {}, "finished")
    assert scalars_in(tmp_path / "tensorboard")["train/loss"] == [(1, 1.0), (2, 20.0)]


def test_only_the_first_process_tells_a_tracker(reviews, tmp_path, monkeypatch):
    recipe = train(reviews, tmp_path, steps=1).recipe.with_(log=("tensorboard",))
    monkeypatch.setattr("thalweg.distributed.is_first", lambda: False)
    with tracking.tracking(recipe, tmp_path / "other", 10, print) as trackers:
        trackers.take({"event": "step", "step": 1, "loss": 1.0, "lr": 0.1, "grad_norm": 1.0})
    assert not (tmp_path / "other").exists()


def test_a_name_in_python_is_checked_too(reviews, tmp_path):
    with pytest.raises(InputError, match="log must be a list of strings; got 'tensorboard'"):
        train(reviews, tmp_path, log="tensorboard")
