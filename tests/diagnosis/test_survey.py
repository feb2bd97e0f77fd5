"""The loss around a run's weights: its own path, and the line to another run."""

import pytest
import torch

from thalweg.diagnosis import survey as module
from thalweg.diagnosis.of_run import subject_of_run
from thalweg.diagnosis.survey import line_to, path_of, survey
from thalweg.errors import InputError
from thalweg.training.session.api import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    sizes = {"first": {}, "second": {"seed": 1}, "wide": {"width": 6}, "other data": {"rows": 50}}
    found = {}
    for name, options in sizes.items():
        rows = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(60)]
        path = folder / f"{name.replace(' ', '-')}.csv"
        path.write_text("review,stars\n" + "\n".join(rows[: options.pop("rows", 60)]) + "\n")
        fixed = {"model": "mlp", "width": 4, "optimizer": "adamw", "lr": 0.05, "steps": 8, "evaluate_every": 4}
        found[name] = train(path, out=folder, **{**fixed, **options})
    return found


def test_path_begins_with_the_weights_before_the_first_step(runs):
    subject = subject_of_run(runs["first"])
    path = path_of(runs["first"], subject)
    assert list(path) == ["start", "step 4", "step 8"]
    parameters = subject.objective().parameters
    model, head = subject.initial()
    for own, first in zip(path["start"], [*model.parameters(), *head.parameters()], strict=True):
        assert torch.equal(own, first)
    assert [tensor.shape for tensor in path["step 4"]] == [tensor.shape for tensor in parameters]
    assert not torch.equal(path["start"][0], path["step 4"][0])


def test_damaged_checkpoint_is_left_out(runs):
    run = runs["second"]
    newest = max((run.folder / "checkpoints").glob("step-*"))
    (newest / "state.json").write_text("{")
    assert list(path_of(run, subject_of_run(run))) == ["start", "step 4"]


def test_plane_holds_the_path_and_lines_go_through_the_weights(runs, monkeypatch):
    monkeypatch.setattr(module, "POINTS", (5,))
    subject = subject_of_run(runs["first"])
    before = [tensor.detach().clone() for tensor in subject.objective().parameters]
    said = []
    found = survey(subject, path_of(runs["first"], subject), said.append)
    plane = found["plane"]
    assert plane["directions"] == ("path", "path-2")
    assert (len(plane["losses"]), len(plane["losses"][0])) == (5, 5)
    assert all(max(map(abs, place["at"])) < 1.25 for place in plane["path"])
    assert [line["directions"] for line in found["lines"]] == [("gradient",), ("largest",), ("smallest",)]
    assert {line["losses"][0][2] for line in found["lines"]} == {plane["loss"]}
    assert found["skipped"] == {}
    assert "at 40 places" in said[0]
    assert all(torch.equal(a, b) for a, b in zip(before, subject.objective().parameters, strict=True))
    assert survey(subject)["plane"]["directions"] == ("random", "random")


def test_line_between_runs_ends_at_both(runs):
    subject = subject_of_run(runs["first"])
    found = line_to(runs["first"], subject, runs["second"].folder)
    there = subject_of_run(runs["second"]).objective(subject.train[:1])
    assert found["losses"][0] == float(subject.objective(subject.train[:1]).value())
    assert found["losses"][-1] == float(there.value())
    assert found["barrier"] >= 0.0
    assert found["other"] == str(runs["second"].folder)


REFUSED = {"wide": "of different size: 'model", "other data": "read their data differently"}


@pytest.mark.parametrize("name", REFUSED)
def test_line_to_another_kind_of_run_is_refused(runs, name):
    with pytest.raises(InputError, match=REFUSED[name]):
        line_to(runs["first"], subject_of_run(runs["first"]), runs[name].folder)


def test_line_to_no_run_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="There is no run folder"):
        line_to(runs["first"], subject_of_run(runs["first"]), tmp_path / "none")
