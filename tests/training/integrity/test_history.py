"""A history is known by its sum, damage is named with its line, and nothing of it is lost when a run goes on."""

import json
import math

import pytest

from thalweg.errors import InputError
from thalweg.storage.files import Sum, sum_of
from thalweg.training.integrity.history import HistoryFile, damage, damaged_line, kept_until, read_history

ENTRIES = [{"event": "step", "step": number, "loss": 1.0 / number} for number in range(1, 6)]


def written(path, entries=ENTRIES, kept=b""):
    file = HistoryFile(path, kept)
    for entry in entries:
        file.write(entry)
    found = file.flush()
    file.close()
    return found


def test_entries_come_back_and_the_sum_is_that_of_the_file(tmp_path):
    path = tmp_path / "history.jsonl"
    assert written(path) == sum_of(path.read_bytes())
    assert read_history(path) == ENTRIES
    written(path, [{"event": "step", "loss": math.nan, "name": "\ud800"}], kept=path.read_bytes())
    assert read_history(path)[5:] == [{"event": "step", "loss": None, "name": "?"}]


def test_entries_behind_a_checkpoint_go_and_those_before_it_stay(tmp_path):
    path = tmp_path / "history.jsonl"
    mark = written(path, ENTRIES[:3])
    written(path, ENTRIES[3:], kept=path.read_bytes())
    assert damage(path, mark) == ""
    written(path, ENTRIES[4:], kept=kept_until(path, mark))
    assert read_history(path) == [*ENTRIES[:3], ENTRIES[4]]


DAMAGED = {
    "a byte that is no UTF-8": (lambda data: data.replace(b'"step": 2', b'"step\xff: 2'), "is damaged in line 2"),
    "a line that is cut": (lambda data: data[:-5], "is damaged in line 5"),
    "a line that is gone": (lambda data: data[: data.rindex(b"{")], r"is cut short \(.* bytes instead of .*\)"),
    "zeros": (lambda data: bytes(len(data)), "is damaged in line 1"),
    "another figure": (lambda data: data.replace(b"0.5", b"0.6"), r"has changed \(its checksum differs\)"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_named_and_the_run_does_not_go_on_with_it(case, tmp_path):
    change, message = DAMAGED[case]
    path = tmp_path / "history.jsonl"
    mark = written(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=f"history.jsonl {message}, so the run does not go on with it"):
        kept_until(path, mark)


def test_a_length_that_a_stranger_has_written_takes_no_memory(tmp_path):
    path = tmp_path / "history.jsonl"
    mark = written(path)
    assert damage(path, Sum(10**15, mark.sha256)) == f"is cut short ({mark.num_bytes:,} bytes instead of {10**15:,})"


def test_what_is_removed_begins_anew_and_lines_behind_the_mark_may_be_torn(tmp_path):
    path = tmp_path / "history.jsonl"
    mark = written(path)
    with open(path, "ab") as file:
        file.write(b'{"event": "st')
    assert kept_until(path, mark) == b"".join(json.dumps(entry).encode() + b"\n" for entry in ENTRIES)
    assert damaged_line(path) == 6
    path.unlink()
    assert kept_until(path, mark) == b""
    assert damage(path, mark) == "is missing"
