"""A function of a test file, called in several processes that work as one."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path


def together(function, *arguments, folder, num=2, seconds=300.0):
    """Return what a function, of JSON, returns in each of `num` processes that work as one.

    It is called by its name in its file, so it must be there at the top level.
    """
    file = sys.modules[function.__module__].__file__
    given = [file, function.__name__, json.dumps(arguments), str(folder), str(num)]
    started = [
        subprocess.Popen([sys.executable, __file__, *given, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(num)
    ]
    deadline = time.monotonic() + seconds
    try:
        ended = [process.communicate(timeout=deadline - time.monotonic())[1] for process in started]
    finally:
        for process in started:
            process.kill()
    for process, said in zip(started, ended, strict=True):
        assert process.returncode == 0, said
    return [json.loads((Path(folder) / f"rank-{rank}.json").read_text()) for rank in range(num)]


def _work(file, name, arguments, folder, num, rank):
    """Be one of the processes."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.fsync = os.fstat  # as in conftest.py
    meeting = f"file://{Path(folder).resolve() / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=int(rank), world_size=int(num))
    spec = importlib.util.spec_from_file_location("of_a_test", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = getattr(module, name)(*json.loads(arguments))
    (Path(folder) / f"rank-{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    _work(*sys.argv[1:])
