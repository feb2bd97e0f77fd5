"""Work in the background: in order, whole before one goes on, and its failures told where they are waited for."""

import threading

import pytest

from thalweg.storage.background import Background


def test_work_is_done_in_order_while_the_caller_goes_on():
    background, begun, goes_on, done = Background(), threading.Event(), threading.Event(), []

    def first():
        begun.set()
        assert goes_on.wait(10)
        done.append(1)

    background.do(first)
    background.do(lambda: done.append(2))
    assert begun.wait(10)
    assert done == []
    goes_on.set()
    background.wait()
    assert done == [1, 2]


def test_what_fails_is_told_once_and_leaves_out_what_comes_after_it():
    background, done = Background(), []

    def fails():
        raise OSError(28, "No space left on device")

    background.do(fails)
    background.do(lambda: done.append(1))
    with pytest.raises(OSError, match="No space left"):
        background.wait()
    assert done == []
    background.do(lambda: done.append(2))
    background.wait()
    assert done == [2]


def test_waiting_for_nothing_returns_at_once():
    Background().wait()
