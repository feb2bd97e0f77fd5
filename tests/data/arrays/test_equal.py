"""Examples are equal where every bit is, whatever the type; nothing is rounded on the way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.data.arrays.equal import same_rows


@settings(max_examples=25)
@given(st.lists(st.tuples(st.lists(st.integers(-2, 3), max_size=3), st.sampled_from([0.0, -0.0, 1.5])), max_size=20))
def test_equal_rows_are_those_of_a_dictionary(data):
    values = np.array([v for row, _ in data for v in row], dtype=np.int32)
    ids = same_rows((values, np.array([len(row) for row, _ in data], dtype=int)), np.array([x for _, x in data]))
    keys = [(tuple(row), str(x)) for row, x in data]
    for i, left in enumerate(keys):
        for j, right in enumerate(keys):
            assert (ids[i] == ids[j]) == (left == right)


def test_a_hash_that_deceives_is_noticed(monkeypatch):
    monkeypatch.setattr(
        "thalweg.data.arrays.equal._hashes", lambda bits, starts, lengths: np.zeros(len(lengths), np.uint64)
    )
    assert same_rows(np.array([[1, 2], [3, 4], [1, 2]])).tolist() == [0, 1, 0]
    assert same_rows((np.array([1j, 2j, 1j]), np.array([1, 1, 1]))).tolist() == [0, 1, 0]


NAN = np.array([np.nan, np.nan])
OTHER_NAN = np.array([0x7FF8000000000000, 0x7FF8000000000001], dtype=np.uint64).view(np.float64)


@pytest.mark.parametrize(
    ("values", "equal"),
    [
        (np.array([2**53, 2**53 + 1]), False),
        (np.array([2**63, 2**63 + 1], dtype=np.uint64), False),
        (np.array([-1, -1], dtype=np.int8), True),
        (np.array([0.0, -0.0]), False),
        (np.array([0.0, -0.0], dtype=np.float16), False),
        (NAN, True),
        (OTHER_NAN, False),
        (np.array([1.0, 1.0 + 2.0**-52]), False),
        (np.array([1.0, 1.0 + 2.0**-23], dtype=np.float32), False),
        (np.array([1 + 1j, 1 + 2j]), False),
        (np.array([1 + 1j, 1 + 1j]), True),
        (np.array([True, False]), False),
        (np.array([1.5, 1.5], dtype=">f8"), True),
        (np.array([[1, 2], [1, 3]])[:, ::-1], False),
    ],
)
def test_two_values_are_equal_where_no_function_tells_them_apart(values, equal):
    ids = same_rows(values)
    assert (ids[0] == ids[1]) == equal


def test_where_a_sequence_ends_counts():
    ids = same_rows((np.array([1, 2, 1]), np.array([2, 1])), (np.array([3, 2, 3]), np.array([1, 2])))
    assert ids[0] != ids[1]  # ([1, 2], [3]) and ([1], [2, 3])


def test_columns_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="at least one column"):
        same_rows()
    with pytest.raises(ValueError, match="one length"):
        same_rows(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="compares numbers"):
        same_rows(np.array(["a", "b"]))
