"""What processes that work as one tell each other; and that one process alone has nothing to tell."""

import datetime as dt

import pytest
import torch
import torch.distributed as dist
from ranks import together

from thalweg import distributed
from thalweg.errors import InputError, RankError

FAILURES = {
    "a mistake of the user's": InputError("data.csv is missing."),
    "the system": OSError(28, "No space left on device", "runs/x"),
    "anything else": ZeroDivisionError("division by zero"),
}


def fails(error):
    raise error


def caught(work):
    try:
        return work()
    except Exception as error:
        return [type(error).__name__, str(error)]


def told():
    """What one process sees."""
    rank, calls = distributed.rank(), []
    rows = torch.arange(2 * (rank + 1)).reshape(-1, 2) + 10 * rank
    held = torch.full((2,), float(rank))
    distributed.send_first([held])
    with distributed.alone():
        by_itself = distributed.gather(rank)
    return {
        "gather": distributed.gather({"rank": rank, "text": "é" * rank}),
        "rows": distributed.gather_rows(rows).tolist(),
        "truth": distributed.gather_rows(torch.tensor([rank == 0])).tolist(),
        "of first": distributed.of_first(rank + 5),
        "most": distributed.most([float(rank), -float(rank)]),
        "sum": [part.tolist() for part in distributed.sum_over_ranks([torch.tensor([1.0, rank]), torch.tensor(2.0)])],
        "sent": held.tolist(),
        "alone": by_itself,
        "by first": distributed.by_first(lambda: calls.append(1) or {"calls": len(calls)}),
        "calls": len(calls),
        "failures": {
            name: caught(lambda e=error: distributed.by_first(lambda: fails(e))) for name, error in FAILURES.items()
        },
        "alike": caught(lambda: distributed.require_alike({"torch": "2.13.0", "recipe": {"seed": rank}})),
        "after": distributed.gather("still here"),
    }


@pytest.mark.slow
def test_all_processes_know_the_same(tmp_path):
    first, second = together(told, folder=tmp_path)
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {"alone", "calls", "failures"}
    assert first["gather"] == [{"rank": 0, "text": ""}, {"rank": 1, "text": "é"}]
    assert first["rows"] == [[0, 1], [10, 11], [12, 13]]
    assert first["truth"] == [True, False]
    assert (first["of first"], first["most"], first["sum"]) == (5, [1.0, 0.0], [[2.0, 1.0], 4.0])
    assert (first["sent"], first["alone"], second["alone"]) == ([0.0, 0.0], [0], [1])
    assert (first["by first"], first["calls"], second["calls"]) == ({"calls": 1}, 1, 0)
    for name, error in FAILURES.items():
        assert first["failures"][name] == [type(error).__name__, str(error)]
    assert second["failures"] == first["failures"] | {
        "anything else": ["RankError", "Process 0 of 2 has stopped (ZeroDivisionError)."]
    }
    kind, said = first["alike"]
    assert kind == "InputError"
    assert "the same recipe; process 0 has {'seed': 0}, process 1 {'seed': 1}" in said
    assert first["after"] == ["still here", "still here"]


def test_one_process_has_nothing_to_tell():
    assert distributed.is_first()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    tensors = [torch.ones(2)]
    assert distributed.sum_over_ranks(tensors) is tensors
    assert distributed.gather_rows(tensors[0]) is tensors[0]
    assert distributed.gather(object) == [object]
    assert distributed.by_first(lambda: object) is object
    distributed.require_alike({"what": "ever"})
    with pytest.raises(RankError, match="as it is"):
        distributed.by_first(lambda: fails(RankError("as it is")))


def test_a_part_that_is_not_told_of_in_the_time_of_messages_is_missed(monkeypatch):
    store = dist.HashStore()
    store.set_timeout(dt.timedelta(milliseconds=30))
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    distributed.post("a part", 1, {"done": True})
    assert distributed.posted("a part", [1]) == [{"done": True}]
    with pytest.raises(RankError, match="Process 2 of 3 does not answer"):
        distributed.posted("a part", [2])
