"""Runs that are killed, whose machine crashes, whose disk is full or whose files are damaged: nothing is lost.

Some of the sequences of `benchmarks/damage.py`, which has many more of them.
"""

import pytest
from disturbing import interruptions, misfortunes
from disturbing.bench import Bench
from disturbing.damages import HARMLESS, NAMED, STATES, Damages
from disturbing.trainings import TRAININGS

# What happens to which command, by the seeds that it is drawn from.
SEQUENCES = [
    (interruptions.killed, "bag", (0, 1)),
    (interruptions.killed, "patience", (0,)),
    (interruptions.killed, "overwrite", (1,)),
    (interruptions.crashed, "bag", (0, 1)),
    (misfortunes.full, "bag", (0, 1)),
    (misfortunes.together, "bag", (1,)),
    (misfortunes.read_only, "bag", (0,)),
    (misfortunes.threaded, "bag", (2,)),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    found = Bench(tmp_path_factory.mktemp("bench"), hash_seeds=(1, 1))
    yield found
    found.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("happens", "case", "seed"), [(happens, case, seed) for happens, case, seeds in SEQUENCES for seed in seeds]
)
def test_the_same_command_ends_as_if_nothing_had_happened(bench, happens, case, seed):
    result = happens(bench, TRAININGS[case], seed)
    assert not result.problem, f"{result.again}: {result.problem}"


@pytest.mark.slow
@pytest.mark.parametrize("state", ["bag", "bag, interrupted"])
def test_a_damaged_file_is_named_or_harmless(bench, state):
    damages = Damages(bench)
    for seed in range(6):
        result = damages.damaged(STATES[state], seed)
        assert result.kind in {NAMED, HARMLESS}, f"{result.again}: {result.problem}"
