"""Functions of test files, called in several processes that work as one; the processes are kept for the next call."""

import atexit
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
import traceback
from pathlib import Path

_WAITING = {}  # processes that wait for a call, by their number


def together(function, *arguments, folder, num=2, seconds=300.0):
    """Return what a function, of JSON, returns in each of `num` processes that work as one.

    It is called by its name in its file, so it must be there at the top level. Where it raises or takes too long, the
    processes end, and others come for the next call.
    """
    processes = _WAITING.pop(num, None) or [_started() for _ in range(num)]
    deadline, said = time.monotonic() + seconds, []
    call = [sys.modules[function.__module__].__file__, function.__name__, arguments, str(folder), num]
    try:
        for rank, process in enumerate(processes):
            process.stdin.write(json.dumps([*call, rank]) + "\n")
            process.stdin.flush()
        for process in processes:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            said.append(process.stdout.readline().strip() if ready else f"No answer in {seconds:.0f} s.")
            if said[-1] != "done":
                deadline = time.monotonic() + 10.0  # for the others to say why
    finally:
        if said == ["done"] * num:
            _WAITING[num] = processes
        else:
            _end(processes)
    assert said == ["done"] * num, "\n".join(json.loads(one) if one.startswith('"') else one for one in said)
    return [json.loads((Path(folder) / f"rank-{rank}.json").read_text()) for rank in range(num)]


def _started():
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    return subprocess.Popen([sys.executable, __file__], **given, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _end(processes):
    for process in processes:
        process.kill()
        process.communicate()


@atexit.register
def _end_all():
    for processes in _WAITING.values():
        _end(processes)


def _work():
    """Be one of the processes: answer each call with "done", or with what it has raised."""
    import torch

    torch.set_num_threads(1)
    os.fsync = os.fstat  # as in conftest.py
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        try:
            _called(*json.loads(line))
            answer = "done"
        except BaseException:
            answer = json.dumps(traceback.format_exc())
        print(answer, file=answers, flush=True)


def _called(file, name, arguments, folder, num, rank):
    import torch.distributed as dist

    meeting = Path(folder).resolve() / f"meeting-{name}"
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=num)
    try:
        spec = importlib.util.spec_from_file_location("of_a_test", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        result = getattr(module, name)(*arguments)
        (Path(folder) / f"rank-{rank}.json").write_text(json.dumps(result))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _work()
