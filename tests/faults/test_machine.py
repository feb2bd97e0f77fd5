"""The disk that forgets: what was synchronized is there, and nothing else is for sure."""

import random

from disturbing.machine import ALL, NONE, SURVIVAL, Disk, contents
from disturbing.operations import Operation

WHOLE = [
    Operation("create", (".a.tmp",)),
    Operation("write", (".a.tmp",), 0, b"new"),
    Operation("fsync", (".a.tmp",)),
    Operation("rename", (".a.tmp", "a")),
    Operation("fsync", (".",)),
]


def left(tmp_path, operations, survival, seed=0):
    folder = tmp_path / "disk"
    folder.mkdir(exist_ok=True)
    (folder / "a").write_bytes(b"old")
    disk = Disk(folder)
    disk.follow(operations)
    disk.crash(random.Random(seed), survival)
    return contents(folder)


def test_what_was_synchronized_survives_every_crash(tmp_path):
    for survival in SURVIVAL:
        assert left(tmp_path, WHOLE, survival) == {"a": b"new"}


def test_a_name_survives_only_with_its_folder(tmp_path):
    assert left(tmp_path, WHOLE[:-1], NONE) == {"a": b"old"}
    assert left(tmp_path, WHOLE[:-1], ALL) == {"a": b"new"}


def test_bytes_that_were_not_synchronized_may_be_gone_under_a_good_name(tmp_path):
    unsynchronized = [one for one in WHOLE if one.paths != (".a.tmp",) or one.name != "fsync"]
    found = {left(tmp_path, unsynchronized, ALL, seed)["a"] for seed in range(30)}
    assert found == {b"new", b"", b"n", b"n\0\0"}


def test_a_folder_goes_with_everything_in_it(tmp_path):
    made = [Operation("mkdir", ("b",)), Operation("create", ("b/c",)), Operation("fsync", ("b",))]
    assert left(tmp_path, made, NONE) == {"a": b"old"}
    assert left(tmp_path, [*made, Operation("fsync", (".",))], NONE) == {"a": b"old", "b/": None, "b/c": b""}


def test_operations_that_were_not_seen_are_told(tmp_path):
    disk = Disk(tmp_path)
    disk.follow([Operation("mkdir", ("b",))])
    assert disk.differs() == ["b/"]
