"""Collation against loops written out, and against PyTorch's own padding and bags."""

from itertools import chain

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pad_sequence

from thalweg.data.arrays.batches import num_chunks
from thalweg.data.arrays.collate import contiguous, flat, pad, windows
from thalweg.data.arrays.ragged import Ragged, RaggedBuilder, Spill

LISTS = st.lists(st.lists(st.integers(1, 1000), max_size=6), min_size=1, max_size=8)


@given(LISTS, st.data(), st.sampled_from([None, 1, 3]))
def test_padding_is_that_of_pytorch(lists, data, max_length):
    indices = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1)))
    tokens, mask = pad(Ragged.from_lists(lists), indices, max_length=max_length)
    rows = [torch.tensor(lists[index][:max_length], dtype=torch.int64) for index in indices]
    expected = pad_sequence(rows, batch_first=True)
    expected = expected if expected.shape[1] else torch.zeros(len(rows), 1, dtype=torch.int64)
    assert torch.equal(tokens, expected)
    assert torch.equal(mask, torch.arange(expected.shape[1]) < torch.tensor([[len(row)] for row in rows]))
    assert tokens.dtype == torch.int64


def test_padding_value_and_type_can_be_chosen():
    values, _ = pad(Ragged.from_lists([[0.5], []], np.float32), np.array([0, 1]), dtype=np.float64, padding=-1)
    assert values.tolist() == [[0.5], [-1.0]]
    assert values.dtype == torch.float64


@given(LISTS, st.data(), st.sampled_from([None, 2]))
def test_flat_bags_are_the_sequences_joined(lists, data, max_length):
    indices = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1)))
    ragged = Ragged.from_lists(lists)
    weights = Ragged((ragged.values / 8).astype(np.float32), ragged.offsets)
    tokens, offsets, values = flat(ragged, weights, indices, max_length=max_length)
    chosen = [lists[index][:max_length] for index in indices]
    assert tokens.tolist() == list(chain.from_iterable(chosen))
    assert offsets.tolist() == [sum(map(len, chosen[:row])) for row in range(len(chosen))]
    assert values.tolist() == [token / 8 for token in list(chain.from_iterable(chosen))]
    whole = max_length is None and indices.tolist() == [*range(len(lists))]
    kind = torch.int32 if whole else torch.int64
    assert (tokens.dtype, offsets.dtype, values.dtype) == (kind, kind, torch.float32)
    assert not len(tokens) or whole == (tokens.data_ptr() == ragged.values.ctypes.data)  # all texts are not copied
    assert torch.equal(flat(ragged, None, indices, max_length=max_length)[2], torch.ones(len(tokens)))


def test_flat_bags_are_read_by_embedding_bag():
    ragged = Ragged.from_lists([[1, 2], [], [3]])
    weights = Ragged.from_lists([[0.5, 2.0], [], [1.0]], np.float32)
    tokens, offsets, values = flat(ragged, weights, np.array([2, 1, 0]))
    table = torch.nn.EmbeddingBag.from_pretrained(torch.eye(4), mode="sum")
    assert table(tokens, offsets, per_sample_weights=values).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0.5, 2, 0]]


def test_collation_reads_files_as_it_reads_memory(tmp_path):
    lists = [[1, 2, 3], [], [4]]
    builder = RaggedBuilder(np.int32, Spill(tmp_path, 0))
    builder.extend(lists)
    mapped, indices = builder.finish(), np.array([2, 0, 1])
    assert isinstance(mapped.values, np.memmap)
    for collate in (lambda ragged: pad(ragged, indices), lambda ragged: flat(ragged, ragged, indices)):
        for result, expected in zip(collate(mapped), collate(Ragged.from_lists(lists)), strict=True):
            assert torch.equal(result, expected)
            result.zero_()  # a copy: the file itself cannot be written to
    assert mapped.values.tolist() == [1, 2, 3, 4]


def test_windows_are_slices():
    series = np.random.default_rng(0).normal(size=(20, 3))
    starts = np.array([4, 0, 16])
    result = windows(series, starts, 4)
    assert torch.equal(result, torch.stack([torch.from_numpy(series[start : start + 4]) for start in starts]))
    assert windows(series, starts, 4, dtype=np.float32).dtype == torch.float32


@given(st.integers(0, 40), st.integers(1, 7))
@settings(max_examples=50)
def test_chunks_of_a_text_have_every_token_but_the_first_as_target_once(num_values, length):
    values = np.arange(100, 100 + num_values, dtype=np.int32)
    count = num_chunks(num_values, length)
    chunks, mask = contiguous(values, np.arange(count), length)
    assert chunks.shape == (count, length + 1)
    assert chunks[:, 1:][mask].tolist() == values[1:].tolist()
    assert chunks[:, :-1][mask].tolist() == values[:-1].tolist()
    assert (chunks[:, 1:][~mask] == 0).all()
