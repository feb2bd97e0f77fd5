"""What Python tells of itself while commands run: files that change, code that is loaded, network and processes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # events by the places of the paths that they change, where a link in the last place is not followed
    "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "shutil.rmtree": (0,),
}  # fmt: skip
FOLLOWED = {"os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "os.setxattr": (0,)}
NEVER = (
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request",
    "pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
    "webbrowser.open",
)  # fmt: skip

_watching: list[tuple[list[Path], Path, list[str]]] = []


@contextmanager
def watched(allowed: list[Path], code: Path) -> Iterator[list[str]]:
    """Yield a list of what goes beyond what is allowed.

    Args:
        allowed: folders and beginnings of names under which files may be changed.
        code: a folder of which no module is to be loaded.
    """
    if not _has_hook:
        sys.addaudithook(_hook)  # it stays as long as Python does
        _has_hook.append(True)
    found: list[str] = []
    _watching.append((allowed, code, found))
    try:
        yield found
    finally:
        _watching.pop()


_has_hook: list[bool] = []


def _hook(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    allowed, code, found = _watching[-1]
    if event in NEVER:
        found.append(f"{event} {arguments[:1]}")
        return
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(path))
        if path.endswith((".py", ".pyc", ".so")) and path.startswith(str(code)):
            found.append(f"loads {path}")
        changes = set(mode) & set("wax+") if isinstance(mode, str) else isinstance(flags, int) and flags & WRITES
        if changes and path != os.devnull:
            _check(event, path, allowed, found)
        return
    if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
        return  # inside a folder that `shutil.rmtree` has open, which was told before
    for place in (*CHANGES.get(event, ()), *FOLLOWED.get(event, ())):
        path = arguments[place]
        if isinstance(path, str | bytes | os.PathLike) and not (event == "os.mkdir" and os.path.isdir(path)):
            path = os.path.abspath(os.fsdecode(path))
            is_followed = event in FOLLOWED
            whole = os.path.realpath(path if is_followed else os.path.dirname(path))
            _check(event, whole if is_followed else os.path.join(whole, os.path.basename(path)), allowed, found)


def _check(event: str, path: str, allowed: list[Path], found: list[str]) -> None:
    if not any(path.startswith(os.path.realpath(one.parent) + os.sep + one.name) for one in allowed):
        found.append(f"{event} {path}")
