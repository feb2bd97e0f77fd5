"""Phases of long work: told to whoever shows them, whole or broken off."""

from thalweg import phases


def told(parts, stop=None):
    seen, taken = [], []
    with phases.shown(lambda what, done, total: seen.append((what, done, total))):
        for part in phases.steps_of("reading", parts, len):
            taken.append(part)
            if len(taken) == stop:
                break
    return seen, taken


def test_what_is_done_is_told_before_each_part_and_at_the_end():
    seen, taken = told(["aa", "bbb", "c"])
    assert taken == ["aa", "bbb", "c"]
    assert seen == [("reading", 0, 6), ("reading", 2, 6), ("reading", 5, 6), ("reading", 6, 6)]


def test_a_phase_that_is_broken_off_is_over():
    seen, taken = told(["aa", "bbb"], stop=1)
    assert taken == ["aa"]
    assert seen[-1] == ("reading", 5, 5)


def test_nobody_is_told_outside():
    told(["a"])
    assert list(phases.steps_of("reading", ["a", "b"], len)) == ["a", "b"]
