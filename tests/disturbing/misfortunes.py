"""A full disk, a folder that cannot be written to, signals, several processes at once, clocks and threads."""

import re
import signal
from typing import Final

from disturbing.bench import Bench, Result, generator_of
from disturbing.interruptions import kills
from disturbing.machine import contents
from disturbing.operations import AFTER, Fault
from disturbing.outcomes import differences, outcome
from disturbing.trainings import Disturbed
from disturbing.warm import Ended

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DAY: Final = 86400.0
OTHER_NAME: Final = re.compile(r"[\w-]+-\d+/")  # where a command made a run beside the first


def _sentence(ended: Ended, codes: tuple[int, ...]) -> str:
    """Return what is wrong with a command that had to fail with a sentence."""
    if ended.code is None:
        return "it did not end"
    if ended.has_traceback:
        return f"a traceback: {ended.error.strip().splitlines()[-1]}"
    if ended.code not in codes:
        return f"exit code {ended.code} instead of {codes}: {' '.join(ended.error.split())[-200:]}"
    if ended.code and not re.search(r"error: \S.*\.", ended.error, re.S):
        return f"exit code {ended.code} without a sentence: {ended.error!r}"
    return ""


def _ends_well(bench: Bench, case: Disturbed) -> str:
    """Give the command again, undisturbed; return what is wrong with what it leaves."""
    if not bench.differences(case):
        return ""
    ended = bench.run(case.command, Fault())
    return _sentence(ended, (0,)) or "; ".join(bench.unmended(case)[:4])


def full(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Let the disk be full from a byte on: a sentence, exit code 1, and the command can be given again."""
    reference, generator = bench.reference(case), generator_of("full", case, seed)
    bench.lay(case)
    written = [len(one.data) for one in reference.operations]
    number = generator.choice([at for at, length in enumerate(written) if length])  # most bytes are those of a page
    size = sum(written[:number]) + generator.randrange(written[number])
    ended = bench.run(case.command, Fault(full_after=size))
    problem = _sentence(ended, (1,)) or _ends_well(bench, case)
    said = f"full after {size:,} of {reference.num_bytes:,} bytes: {problem}"
    return Result("full", case.name, seed, "full", said if problem else "")


def read_only(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Let nothing be written: a sentence, and everything as it was."""
    bench.reference(case)
    bench.lay(case)
    before = contents(bench.runs)
    ended = bench.run(case.command, Fault(read_only=True))
    problem = _sentence(ended, (1, 2))
    if not problem and contents(bench.runs) != before:
        problem = "something has changed"
    return Result("read-only", case.name, seed, "read-only", problem)


def signaled(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Send one signal or two at random times; then the command ends as if there had been none."""
    reference, generator = bench.reference(case), generator_of("signal", case, seed)
    bench.lay(case)
    sent = [(generator.uniform(0.0, 1.1 * reference.seconds), generator.choice(SIGNALS))]
    if generator.random() < 0.5:
        sent.append((sent[0][0] + generator.uniform(0.0, 0.3), generator.choice(SIGNALS)))
    ended = bench.run(case.command, Fault(), signals=sent)
    # A signal that comes before anything is prepared for it, or a second one, ends the process as the system does it.
    codes = {0, *(128 + number for _, number in sent), *(-number for _, number in sent if number != signal.SIGINT)}
    problem = ""
    if ended.code is None:
        problem = "it did not end"
    elif ended.has_traceback:
        problem = f"a traceback: {ended.error.strip().splitlines()[-1]}"
    elif ended.code not in codes:
        problem = f"exit code {ended.code}: {' '.join(ended.error.split())[-200:]}"
    problem = problem or _ends_well(bench, case)
    times = ", ".join(f"{number.name} after {after:.2f} s" for after, number in sent)
    return Result("signal", case.name, seed, "signal", f"{times}: {problem}" if problem else "")


def together(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Give a command two or three times at once, anew or where it was interrupted.

    One does the work and ends as if it had been alone; each of the others ends with a sentence, or waits, or has
    another name; nothing is damaged.
    """
    reference, generator = bench.reference(case), generator_of("together", case, seed)
    bench.lay(case)
    begun = generator.random() < 0.5
    if begun:
        at = generator.randrange(len(reference.operations) // 2, len(reference.operations))
        bench.run(case.command, Fault(at, AFTER))
    number = generator.choice([2, 2, 3])
    ended = [one.wait() for one in [bench.start(case.command) for _ in range(number)]]
    problems = [problem for one in ended if (problem := _sentence(one, (0, 1, 2)))]
    if not problems and all(one.code for one in ended):
        problems = [f"none of them ended well: {' '.join(ended[0].error.split())[-200:]}"]
    if not problems:
        problems = _unlike(bench, case, number)
    how = f"{number} at once{', resuming' if begun else ''}: "
    return Result("together", case.name, seed, "together", how + "; ".join(problems[:3]) if problems else "")


def _unlike(bench: Bench, case: Disturbed, number: int) -> list[str]:
    """Return how `runs` differs from what the command leaves that is given once or, one after the other, so often."""
    found, problems = outcome(bench.runs), []
    for times in range(1, number + 1):
        problems = [one for one in differences(found, bench.repeated(case, times)) if not OTHER_NAME.match(one)]
        if not problems:
            return []
    return problems


def clocked(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Go on with a clock that was set back or forward; nothing depends on it."""
    reference, generator = bench.reference(case), generator_of("clock", case, seed)
    bench.lay(case)
    [kill, *_] = kills(generator, reference, timed=False)
    ended = bench.run(case.command, kill.fault)
    off = generator.choice([-3650, -30, -1, 1, 3650]) * DAY
    if ended.was_killed and bench.differences(case):
        ended = bench.run(case.command, Fault(clock=off))
    # A kill after all was done leaves nothing to go on with.
    problem = "" if ended.was_killed else _sentence(ended, (0,))
    problem = problem or "; ".join(bench.unmended(case)[:4])
    said = f"killed {kill.words(reference)}, then the clock off by {off:,.0f} s: {problem}"
    return Result("clock", case.name, seed, "clock", said if problem else "")


def threaded(bench: Bench, case: Disturbed, seed: int) -> Result:
    """Go on with another number of threads: that the bits may differ is said, and only then."""
    reference, generator = bench.reference(case), generator_of("threads", case, seed)
    bench.lay(case)
    half = [k for k, one in enumerate(reference.operations) if "checkpoints/step" in one.paths[-1]]
    if not half:
        return Result("threads", case.name, seed, "threads")
    bench.run(case.command, Fault(generator.choice(half[1:-1] or half), AFTER))
    threads = generator.choice([1, 2, 4])
    begun = "--overwrite" not in case.command and any(bench.runs.glob("*/checkpoints/step-*"))
    command = case.command.replace(" --quiet", "")
    ended = bench.run(command, Fault(threads=threads))
    is_said = bool(re.search(r"\bthreads?\b", ended.error))
    problem = _sentence(ended, (0,))
    if not problem and is_said != (begun and threads != 1):
        problem = f"{threads} threads instead of 1 {'are' if is_said else 'are not'} mentioned: {ended.error[:300]!r}"
    if not problem and threads == 1:
        problem = "; ".join(bench.unmended(case)[:4])
    return Result("threads", case.name, seed, "threads", problem)
