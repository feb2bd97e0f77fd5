"""The processes that a launcher has started, such as `torchrun` or `srun`, brought together."""

import contextlib
import dataclasses
import datetime as dt
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, final

import torch
import torch.distributed as dist

from thalweg import distributed
from thalweg.errors import InputError, shown
from thalweg.training.recipe.ranges import MOST

SECONDS: Final = 600.0  # a process that does not come, or answer, for so long has hung
PORT: Final = 29500  # torchrun's own, where nothing names another
_SILENT: Final = 10.0  # seconds after which one says what is waited for
_WAIT_FOR_FIRST: Final = 3.0
_WORKERS: Final = "start the processes with torchrun, or unset these variables"
_NO_STEPS: Final = (
    "",
    "4294967290",
    "4294967291",
)  # SLURM_STEP_ID: none, and those of a shell and of a job's script, one process


@final
@dataclasses.dataclass(frozen=True)
class Launch:
    """This process among those that a launcher has started.

    Args:
        rank: its number.
        num: how many there are.
        local: its number on its machine.
        address: name of the machine of process 0.
        port: where that one listens.
    """

    rank: int
    num: int
    local: int = 0
    address: str = "127.0.0.1"
    port: int = PORT


def launch_of(environment: Mapping[str, str]) -> Launch | None:
    """Return what a launcher has written into the environment; None where none has, or it started one process.

    Raises:
        InputError: if only a part of it is there, or is no number in its range.

    Example:
        >>> launch_of({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29400"})
        Launch(rank=1, num=2, local=1, address='a', port=29400)
        >>> launch_of({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_NODELIST": "n[7-9]"})
        Launch(rank=3, num=4, local=0, address='n7', port=29500)
    """
    num_tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS", "1")  # of step, of job
    if environment.get("WORLD_SIZE") == "1":
        return None
    if environment.get("WORLD_SIZE") or environment.get("RANK"):
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        given = {name: environment.get(name, "0" if name == "LOCAL_RANK" else "") for name in names}
        address = environment.get("MASTER_ADDR", "")
        if not address:
            raise InputError(f"RANK or WORLD_SIZE is set and MASTER_ADDR is not; {_WORKERS}.")
    elif environment.get("SLURM_STEP_ID", "") not in _NO_STEPS and num_tasks != "1":
        given = {"RANK": environment.get("SLURM_PROCID", ""), "WORLD_SIZE": num_tasks}
        given["LOCAL_RANK"] = environment.get("SLURM_LOCALID", "0")
        address = environment.get("MASTER_ADDR") or _first_node(environment.get("SLURM_NODELIST", ""))
    else:
        return None
    given["MASTER_PORT"] = environment.get("MASTER_PORT", str(PORT))
    for name, value in given.items():
        if not re.fullmatch(r"\d{1,6}", value, re.ASCII):
            raise InputError(f"{name} must be a whole number; got {shown(value)}, so {_WORKERS}.")
    rank, num, local, port = (int(given[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
    if not 0 <= rank < num:
        raise InputError(f"RANK must lie in [0, WORLD_SIZE); got {rank} of {num}, so {_WORKERS}.")
    if not 0 < port < 65536:
        raise InputError(f"MASTER_PORT must lie between 1 and 65535; got {port}, so {_WORKERS}.")
    return Launch(rank, num, local, address, port) if num > 1 else None


def _first_node(names: str) -> str:
    """Return the first of SLURM's node names, such as `a[07-09,11],b`."""
    found = re.match(r"([^\[,]+)(?:\[(\w+))?", names)
    return f"{found[1]}{found[2] or ''}" if found else "127.0.0.1"


@contextlib.contextmanager
def joined(*, seconds: float = SECONDS, say: Callable[[str], None] = lambda sentence: None) -> Iterator[None]:  # noqa: ARG005
    """Work together with the processes that a launcher has started, for the length of a block.

    Nothing happens where there are none, or where the caller has brought them together.

    What ends the block on every process is told by the first one; what ends it on one alone is told with its number.

    Args:
        seconds: how long one waits for another, > 0.
        say: told what is waited for, where that takes long.

    Raises:
        InputError: if they do not come together.
    """
    if not 1.0 <= seconds <= MOST:
        raise InputError(f"--rank-timeout must lie between 1s and {MOST:,}s; got {seconds:g}s.")
    launch = None if dist.is_available() and dist.is_initialized() else launch_of(os.environ)
    if launch is None:
        yield
        return
    _join(launch, seconds, say)
    try:
        yield
    except Exception as error:
        _tell(launch, error)
        raise
    finally:
        dist.destroy_process_group()


def _join(launch: Launch, seconds: float, say: Callable[[str], None]) -> None:
    if not dist.is_available():
        raise InputError("This build of PyTorch has no torch.distributed; train in one process.")
    given = {"MASTER_ADDR": launch.address, "MASTER_PORT": str(launch.port)}
    os.environ |= given | {"RANK": str(launch.rank), "WORLD_SIZE": str(launch.num)}
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(launch.local % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        store = _met(launch, _Wait(seconds, say))
        limit = dt.timedelta(seconds=seconds)
        dist.init_process_group(backend, store=store, rank=launch.rank, world_size=launch.num, timeout=limit)
        store.set_timeout(limit)  # in which one posts its part of a checkpoint
    except (RuntimeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"Process {launch.rank} of {launch.num} does not reach the others at {launch.address}:{launch.port} "
            f"({reason}); set another MASTER_PORT (torchrun --master-port), or start all of them."
        ) from None


@final
class _Wait:
    """A wait for other processes, that a signal can end: the backend's own waits cannot be interrupted."""

    def __init__(self, seconds: float, say: Callable[[str], None]) -> None:
        self._begin, self._seconds, self._say = time.monotonic(), seconds, say
        self._has_said = False

    def goes_on(self, what: str) -> bool:
        """Sleep a little, say once what is waited for, and return whether there is time left."""
        time.sleep(0.05)
        waited = time.monotonic() - self._begin
        if waited > _SILENT and not self._has_said:
            self._has_said = True
            self._say(f"Waiting for {what} (at most {self._seconds:,.0f} s, --rank-timeout).")
        return waited < self._seconds


def _met(launch: Launch, wait: _Wait) -> Any:
    """Return the place where processes leave each other notes, when all of them have come there."""
    listens = launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun does
    place = f"{launch.address}:{launch.port}"
    while not listens:
        try:
            socket.create_connection((launch.address, launch.port), timeout=_SILENT).close()
            break
        except OSError as error:
            if not wait.goes_on(f"process 0 at {place}: {error.strerror or error}"):
                raise
    found: list[Any] = []  # by a thread, since nothing interrupts it where something else listens there

    def connect() -> None:
        try:
            found.append(dist.TCPStore(launch.address, launch.port, launch.num, listens, wait_for_workers=False))
        except Exception as error:
            found.append(error)

    threading.Thread(target=connect, daemon=True).start()
    while not found:
        if not wait.goes_on(f"an answer from {place}"):
            raise OSError("nothing of ours answers there")
    if isinstance(found[0], Exception):
        raise found[0]
    store = dist.PrefixStore(f"thalweg/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", found[0])
    store.set(f"come/{launch.rank}", "")
    missing = list(range(launch.num))
    while missing := [one for one in missing if not store.check([f"come/{one}"])]:
        who = f"process {missing[0]}" if len(missing) == 1 else f"processes {', '.join(map(str, missing[:9]))}"
        if not wait.goes_on(f"{who} of {launch.num} to come to {place}"):
            raise InputError(
                f"{who[0].upper()}{who[1:]} of {launch.num} did not come to {place} in time; start all of them, or "
                "raise --rank-timeout."
            )
    return store


def _tell(launch: Launch, error: Exception) -> None:
    """Mark an error as told where the first process tells the same; else say which process this is."""
    store: Any = dist.distributed_c10d._get_default_store()
    said = str(error)
    with contextlib.suppress(Exception):  # the first one may have gone, and the store with it
        store.set(f"thalweg/ended/{launch.rank}", said)
        if distributed.is_first():
            return
        store.wait(["thalweg/ended/0"], dt.timedelta(seconds=_WAIT_FOR_FIRST))
        if store.get("thalweg/ended/0").decode() == said:
            error.is_told = True  # type: ignore[attr-defined]
            return
    if launch.rank and error.args:
        error.args = (f"Process {launch.rank} of {launch.num}: {said}", *error.args[1:])
