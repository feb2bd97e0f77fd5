"""Files in blocks: every row is in one of them, with its line, and what has changed or is damaged is named."""

import gzip
import json

import numpy as np
import pytest

from thalweg.data.arrays.batches import Examples
from thalweg.data.blocks import shards as module
from thalweg.data.blocks.shards import Shards, why_not
from thalweg.data.blocks.streamed import Streamed
from thalweg.data.files.sources import open_source
from thalweg.errors import InputError

NUM = 700
KINDS = {
    "rows.jsonl": lambda rows: "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows),
    "rows.csv": lambda rows: "text,label\n" + "".join(f'"{text}\n, more",{label}\n' for text, label in rows),
    "rows.tsv": lambda rows: "text\tlabel\r\n" + "".join(f"{text}\t{label}\r\n" for text, label in rows),
    "rows.txt": lambda rows: "".join(f"{text} {label}\n" for text, label in rows),
}


def rows_from(start, stop):
    return [(f"text {number} " + "so " * (number % 11), "ab"[number % 2]) for number in range(start, stop)]


def write(folder, name, start=0, stop=NUM):
    content = KINDS[name.removesuffix(".gz")](rows_from(start, stop)).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder / name


def lines_and_rows(source):
    return [(str(row.line), row.values) for row in source.rows()]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("thalweg.data.blocks.index.MOST_BYTES", 5000)


@pytest.mark.parametrize("name", [*KINDS, "rows.jsonl.gz", "rows.csv.gz"])
def test_rows_of_all_blocks_are_those_of_the_file_with_their_lines(tmp_path, name):
    source = open_source(write(tmp_path, name))
    shards = Shards(source)
    assert len(shards) > 3
    everything = np.arange(len(shards))
    assert lines_and_rows(shards.source_of(everything)) == lines_and_rows(source)
    by_block = [lines_and_rows(block) for block in shards.each(everything)]
    assert [row for rows in by_block for row in rows] == lines_and_rows(source)
    some = everything[1::2]
    assert lines_and_rows(shards.source_of(some)) == [row for block in some for row in by_block[block]]


def test_rows_in_the_middle_are_not_below_the_table_and_empty_lines_are_no_rows(tmp_path):
    rows = [f"a text {number},{'ab'[number % 2]}\n\n\r\nsum,{number}\n" for number in range(NUM)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(rows) + "total,7\n", newline="")
    shards = Shards(source := open_source(tmp_path / "rows.csv"))
    assert lines_and_rows(shards.source_of(np.arange(len(shards)))) == lines_and_rows(source)
    assert shards.num_rows.sum() == 2 * NUM + 2  # with header and total


def test_several_files_are_one_after_the_other_and_say_which_line_of_which(tmp_path):
    for number in range(3):
        write(tmp_path, "rows.jsonl", 100 * number, 100 * number + 100).rename(tmp_path / f"part-{number}.jsonl")
    rows = rows_from(100, 200)
    content = "".join(json.dumps({"label": label, "more": 1, "text": text}) + "\n" for text, label in rows)
    (tmp_path / "part-1.jsonl").write_text(content)
    source = open_source(tmp_path)
    assert source.columns == ("text", "label", "more")
    shards = Shards(source)
    found = lines_and_rows(shards.source_of(np.arange(len(shards))))
    assert found == lines_and_rows(source)
    assert found[150][0].endswith("part-1.jsonl")
    assert found[0][1][2] is None


def test_file_without_a_column_that_is_read_is_named(tmp_path):
    write(tmp_path, "rows.jsonl").rename(tmp_path / "part-0.jsonl")
    (tmp_path / "part-1.jsonl").write_text('{"words": "another set"}\n' * 20)
    with pytest.raises(InputError, match=r"part-1\.jsonl: expected columns 'text', 'label' .* called 'text'"):
        Shards(open_source(tmp_path), ["text", "label"])


def test_empty_and_damaged_files_are_named(tmp_path):
    write(tmp_path, "rows.jsonl.gz").rename(tmp_path / "part-0.jsonl.gz")
    content = (tmp_path / "part-0.jsonl.gz").read_bytes()
    (tmp_path / "part-1.jsonl.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(InputError, match=r"part-1\.jsonl\.gz: expected rows of data, got an empty file"):
        open_source(tmp_path)
    (tmp_path / "part-1.jsonl.gz").write_bytes(content)
    source = open_source(tmp_path)
    (tmp_path / "part-1.jsonl.gz").write_bytes(content[:-20])
    with pytest.raises(InputError, match=r"part-1\.jsonl\.gz: the compressed file is damaged or truncated"):
        Shards(source)


@pytest.mark.parametrize("what", ["grown", "shrunk", "gone"])
def test_file_that_changes_while_it_is_read_is_named(tmp_path, what):
    path = write(tmp_path, "rows.jsonl")
    shards = Shards(open_source(path))
    if what == "gone":
        path.unlink()
    else:
        write(tmp_path, "rows.jsonl", stop=NUM + (50 if what == "grown" else -50))
    expected = r"rows\.jsonl.*No such file" if what == "gone" else r"rows\.jsonl has changed while it was read"
    with pytest.raises(InputError, match=expected):
        list(shards.each(np.arange(2)))


def test_unreadable_rows_of_a_block_are_counted_with_their_lines(tmp_path):
    path = write(tmp_path, "rows.jsonl")
    lines = path.read_text().splitlines()
    lines[400] = "{nothing"
    path.write_text("\n".join(lines))
    shards = Shards(open_source(path))
    source = shards.source_of(np.arange(len(shards)))
    assert len(list(source.rows())) == NUM - 1
    assert [row.line for row in source.bad_rows] == [401]


def test_what_cannot_be_cut_says_why(tmp_path):
    (tmp_path / "words.conll").write_text("a\tB\nb\tO\n\n" * 9)
    assert "is conll, of which" in why_not(open_source(tmp_path / "words.conll"))
    (tmp_path / "wide.txt").write_bytes("a text\n".encode("utf-16"))
    assert "is not UTF-8" in why_not(open_source(tmp_path / "wide.txt", kind="text"))
    assert why_not(open_source(write(tmp_path, "rows.csv"))) == ""


def test_processes_that_fail_tell_all(tmp_path, monkeypatch):
    source = open_source(write(tmp_path, "rows.jsonl"))
    monkeypatch.setattr(module.distributed, "gather", lambda value: [value, {"found": [], "problem": "shard 1 is bad"}])
    with pytest.raises(InputError, match="shard 1 is bad"):
        Shards(source)


def streamed(counts, told=None):
    """Examples of blocks with so many of them, whose value says which they are."""

    def read(blocks):
        for block in blocks.tolist():
            if told is not None:
                told.append(block)
            yield Examples({"value": 1000 * block + np.arange(counts[block])})

    sizes = np.maximum(1, np.array(counts))
    return Streamed(sizes, np.arange(len(counts)), read, Examples({"value": np.array([-1])}))


def read_all(stream, world_size, rank):
    order = stream.order(8, seed=0, shuffle=True, rank=rank, world_size=world_size)
    found = []
    for index in range(order.num_batches):
        examples, places = stream.rows(order.batch(1, index))
        found.append(sorted(np.asarray(examples.columns["value"])[places].tolist()))
    return found


@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_streamed_examples_are_each_in_one_batch_of_one_process(world_size):
    counts = [number % 13 for number in range(300)]  # some blocks turn out to be empty
    alone = read_all(streamed(counts), 1, 0)
    shares = [read_all(streamed(counts), world_size, rank) for rank in range(world_size)]
    joined = [sorted(value for share in batch for value in share if value >= 0) for batch in zip(*shares, strict=True)]
    assert joined == alone
    assert sorted(value for batch in alone for value in batch) == [
        1000 * block + place for block, count in enumerate(counts) for place in range(count)
    ]


def test_share_that_is_empty_is_one_spare_example():
    stream = streamed([3])
    order = stream.order(1, seed=0, shuffle=True, rank=1, world_size=2)
    examples, places = stream.rows(order.batch(0, 0))
    assert np.asarray(examples.columns["value"])[places].tolist() == [-1]


def test_a_window_is_read_once_and_one_alone_is_in_memory():
    told: list[int] = []
    stream = streamed([20] * 300, told)
    order = stream.order(8, seed=0, shuffle=True, rank=0, world_size=1)
    for index in range(order.num_batches):
        order.batch(0, index)
    assert sorted(told) == list(range(300))
    assert len(stream._held[0]) < 150
