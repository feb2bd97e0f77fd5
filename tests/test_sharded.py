"""Parameters divided among processes: the curve of whole ones, and checkpoints that any number of processes reads."""

import math
import shutil
from pathlib import Path

import pytest
import torch
from ranks import together
from thirds import write_thirds
from torch import nn

from thalweg import distributed, sharded
from thalweg.errors import InputError
from thalweg.training.folder import checkpoint
from thalweg.training.folder.run import Run
from thalweg.training.folder.tensor_files import SHARD
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.finish import train_and_finish
from thalweg.training.session.loop import train
from thalweg.training.session.prepare import Request, prepare

SMALL = {
    "model": "transformer", "heads": 2, "width": 6, "hidden": 10, "layers": 2, "dropout": 0.2, "precision": "float64",
    "steps": 6, "batch_size": 21, "evaluate_every": 2, "optimizer": "adamw", "lr": 1e-2,
}  # fmt: skip
WRITES = {**SMALL, "task": "language", "max_length": 9, "tokenizer": "word"}
CASES = {
    "softmax": {**WRITES, "tie": True, "clip": 0.5},
    "following": {
        **WRITES, "head": "contrastive", "targets": "embedding", "target_average": 0.9, "accumulate": 2, "layers": 1,
        "average": "ema", "skip": "rezero", "clip_running": 2.0, "optimizer": "sgd",
    },
}  # fmt: skip
CLOSE = 1e-9  # of each loss in float64, relative


def write_lines(folder):
    words = ["river", "stone", "light", "water", "field"]
    lines = [" ".join(words[(number * k + k) % 5] for k in range(1, 2 + number % 4)) for number in range(70)]
    path = Path(folder) / "lines.txt"
    path.write_text("".join(f"{line} {line[::-1]} {number % 7}\n" for number, line in enumerate(lines)))
    return path


def options(folder, case, **more):
    return Options({"source": str(Path(folder) / "lines.txt"), **CASES[case], "name": case, "shard": True, **more})


def losses(entries):
    return [entry["loss"] for entry in entries if entry["event"] in ("step", "evaluation")]


def figures(entries):
    """Return what was recorded of layers and gradients of the steps that were watched, as numbers."""
    steps = [entry for entry in entries if "layers" in entry]
    layers = [number for step in steps for one in step["layers"].values() for number in one.values()]
    others = [step.get(name) for step in steps for name in ("grad_norm", "alignment")]
    return [math.nan if number is None else number for number in (*layers, *others)]


def curve(folder, part, case, *, finishes=False, **more):
    """Return the losses of a training from where it stands to its end, what is measured then, and its first figures."""
    entries, summary = [], {}
    with prepare(Request(options(folder, case, **more), Path(folder) / part), lambda sentence: None) as session:
        if finishes:
            summary = train_and_finish(session, lambda sentence: None, entries.append)
        else:
            entries += train(session)
    return losses(entries), summary.get("loss"), figures(entries)


def broken_off(folder, part, case, step=4):
    """Train until after a step, and no further, as if killed there."""
    with prepare(Request(options(folder, case), Path(folder) / part), lambda sentence: None) as session:
        for entry in train(session):
            if entry["event"] == "step" and entry["step"] == step:
                memory = session.optimizer.state.values()
                tensors = [*session.model.parameters(), *(one["exp_avg"] for one in memory)]
                return [
                    sum(tensor.numel() for tensor in tensors),
                    sum(sharded.own(tensor).numel() for tensor in tensors),
                ]
    return []


def in_two(folder):
    """Train in several processes."""
    found = {f"curve {case}": curve(folder, "two", case, finishes=case == "softmax") for case in CASES}
    found["numbers"] = broken_off(folder, "broken", "softmax")
    distributed.by_first(lambda: str(shutil.copytree(Path(folder) / "broken", Path(folder) / "handed-on")))
    found["resumed"] = curve(folder, "broken", "softmax")  # in as many processes
    found["taken-over"] = curve(folder, "taken-over", "softmax")  # from one
    found["refused"] = []
    for given in ({"optimizer": "soap"}, {"average": "schedule-free"}, {"line_search": "armijo"}):
        try:
            curve(folder, "refused", "softmax", **given)
        except InputError as error:
            found["refused"].append(str(error))
    return found | parts_of(folder)


def parts_of(folder):
    """Return what the functions of `sharded` say of five rows in two processes."""
    torch.manual_seed(0)
    model, head = nn.Linear(3, 5), nn.Linear(5, 1)
    table = model.weight.detach().clone()
    sharded.divide(model, head)
    weight = model.weight
    state = checkpoint.load(Path(folder) / "thirds" / "step-00000007", like=weight)
    found = {"own": sharded.own(weight).tolist(), "joined": torch.equal(sharded.joined(weight), table)}
    found["share"] = [sharded.share_of(5, weight), sharded.share_of(1, weight)]
    found["thirds"] = [sharded.own(state["x"]).tolist(), sharded.joined(state["x"]).flatten().tolist()]
    with sharded.whole(model):
        found["whole"] = torch.equal(model.weight, table) and not sharded.is_divided(model.weight)
    sharded.put(weight, table + 1.0)
    found["put"] = torch.equal(sharded.joined(weight), table + 1.0)
    loss = sharded.computing(model, lambda: head(model(torch.ones(1, 3))).sum())
    loss.backward()
    found["gradient"] = sharded.joined(model.weight.grad).tolist()
    found["expected"] = [[2 * row] * 3 for row in sharded.joined(head.weight)[0].tolist()]
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes come to, and one, on the same data."""
    folder = tmp_path_factory.mktemp("sharded")
    write_lines(folder)
    write_thirds(folder / "thirds")
    broken_off(folder, "taken-over", "softmax")
    one = {case: curve(folder, "one", case, finishes=case == "softmax") for case in CASES}
    two = together(in_two, str(folder), folder=folder)
    return folder, one, two


@pytest.mark.parametrize("case", CASES)
def test_divided_parameters_have_the_curve_of_whole_ones(found, case):
    _, one, (first, second) = found
    expected, measured, layers = one[case]
    given, said, seen = first[f"curve {case}"]
    assert len(seen) == len(layers) > 50
    assert seen == pytest.approx(layers, rel=1e-6, nan_ok=True)
    assert len(given) == len(expected) > 6
    assert given == pytest.approx(expected, rel=CLOSE)
    assert said is measured is None or said == pytest.approx(measured, rel=CLOSE)
    assert second[f"curve {case}"][0] == given


def test_each_process_holds_its_part_of_parameters_and_moments(found):
    _, _, (first, second) = found
    (total, own), (again, others) = first["numbers"], second["numbers"]
    assert total == again == own + others
    assert own == pytest.approx(total / 2, rel=0.1)


def test_a_run_goes_on_in_as_many_processes_with_the_same_bits(found):
    folder, _, (first, _) = found
    assert first["resumed"][0] == first["curve softmax"][0][-len(first["resumed"][0]) :]
    weights = [(folder / part / "softmax" / "model.safetensors").read_bytes() for part in ("two", "broken")]
    assert weights[0] == weights[1]
    assert Run(folder / "two" / "softmax").predict(["river stone"])


def test_one_process_goes_on_with_what_two_have_begun_and_the_other_way_round(found):
    folder, one, (first, _) = found
    shards = sorted((folder / "handed-on" / "softmax" / "checkpoints").glob("*/shard-*"))
    assert [path.name for path in shards[-2:]] == [SHARD.format(number, 2) for number in (1, 2)]
    given, _, _ = curve(folder, "handed-on", "softmax")
    assert given == pytest.approx(one["softmax"][0][-len(given) :], rel=CLOSE)
    given, _, _ = first["taken-over"]
    assert given == pytest.approx(one["softmax"][0][-len(given) :], rel=CLOSE)


def test_methods_that_need_whole_matrices_are_refused(found):
    _, _, (first, second) = found
    assert first["refused"] == second["refused"]
    for sentence, named in zip(first["refused"], ("soap", "schedule-free", "armijo"), strict=True):
        assert "--shard" in sentence
        assert named in sentence


def test_each_process_has_its_rows(found):
    _, _, (first, second) = found
    assert [len(first["own"]), len(second["own"])] == [3, 2]
    assert [first["share"], second["share"]] == [[[0, 3], [0, 1]], [[3, 5], [1, 1]]]
    for said in (first, second):
        assert said["joined"]
        assert said["whole"]
        assert said["put"]
        assert said["gradient"] == said["expected"]


def test_three_shards_are_read_by_two_processes_and_by_one(found, tmp_path):
    _, _, (first, second) = found
    saved, rows = write_thirds(tmp_path)
    assert [first["thirds"][0], second["thirds"][0]] == [rows[:2].tolist(), rows[2:].tolist()]
    assert first["thirds"][1] == rows.flatten().tolist()
    assert torch.equal(checkpoint.load(saved)["x"], rows)


def test_on_one_process_nothing_is_divided():
    model, head = nn.Linear(2, 2), nn.Linear(2, 1)
    sharded.divide(model, head)
    assert not sharded.is_divided(model.weight)
    assert sharded.own(model.weight) is model.weight is sharded.joined(model.weight)
    assert sharded.computing(model, lambda: 3) == 3
    with sharded.whole(model):
        sharded.put(model.weight, torch.ones(2, 2))
    assert model.weight.sum() == 4.0
    assert not distributed.is_active()
