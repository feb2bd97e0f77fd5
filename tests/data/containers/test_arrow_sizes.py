"""What packed batches unpack to is read from the file, so that one that is too large is never unpacked."""

import io
import random

import pyarrow as pa
import pytest

from thalweg.data.containers import arrow
from thalweg.data.containers.arrow_sizes import unpacked_size
from thalweg.data.containers.opening import open_any
from thalweg.errors import InputError

KINDS = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}


def written(table, kind, packing, **how):
    sink = io.BytesIO()
    with KINDS[kind](sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=packing)) as writer:
        writer.write_table(table, **how)
    return sink.getvalue()


@pytest.fixture(scope="module")
def table():
    labels = pa.array(["yes", "no"] * 1000).dictionary_encode()
    nested = pa.array([{"a": [number, None]} for number in range(2000)])
    return pa.table({"text": [f"text {number}" for number in range(2000)], "label": labels, "more": nested})


@pytest.mark.parametrize("packing", ["lz4", "zstd", None])
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_all_batches_and_lists_of_classes(table, kind, packing):
    data = written(table, kind, packing, max_chunksize=300)
    found = unpacked_size(io.BytesIO(data), is_stream=kind == "stream")
    assert found == 0 if packing is None else found == pytest.approx(table.nbytes, rel=0.05)


@pytest.mark.parametrize("ending", ["arrow", "feather"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_grows_as_no_data_does_is_not_unpacked(tmp_path, monkeypatch, kind, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(
        written(pa.table({"text": pa.repeat("a" * 1_100_000, 100), "label": ["x", "y"] * 50}), kind, "zstd")
    )
    monkeypatch.setattr(arrow, "_first_batch", lambda *_: pytest.fail("it is being unpacked"))
    with pytest.raises(InputError, match=r"a\.\w+: it would grow from [\d,]+ to 110,[\d,]+ bytes or more"):
        open_any(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_a_value_error_or_has_a_size(table, kind):
    data, generator = written(table.slice(0, 20), kind, "zstd"), random.Random(0)
    outcomes = set()
    for _ in range(300):
        changed = bytearray(data[: generator.randrange(len(data))] if generator.random() < 0.2 else data)
        for _ in range(generator.randrange(1, 6)):
            if changed:
                changed[generator.randrange(len(changed))] = generator.choice([0, 1, 127, 128, 255])
        try:
            outcomes.add(unpacked_size(io.BytesIO(bytes(changed)), is_stream=kind == "stream") >= 0)
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {True, "refused"}
