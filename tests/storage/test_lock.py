"""A lock: one owner, who is named; it ends with its process."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from thalweg.errors import InputError
from thalweg.storage.lock import Lock

HOLD = "import sys, time; from pathlib import Path; from thalweg.storage.lock import Lock; "
HOLD += "lock = Lock(Path(sys.argv[1]), 'trained'); print('has it', flush=True); time.sleep(60)"


def test_a_lock_has_one_owner_whose_number_is_told_and_dies_with_it(tmp_path):
    folder = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InputError, match=f"/a is being trained by process {process.pid}; wait until that ends"):
            Lock(folder)
        process.send_signal(signal.SIGKILL)
    with Lock(folder):
        pass


def test_another_thread_of_the_process_has_to_wait_too_and_nothing_is_left(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    told = f"^{tmp_path / 'link'} is being diagnosed by process {os.getpid()};"
    with Lock(tmp_path / "a", "diagnosed"), pytest.raises(InputError, match=told):
        Lock(tmp_path / "link")  # the same folder by another name
    with Lock(tmp_path / "link") as lock:
        lock.release()
        lock.release()
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_what_is_done_in_a_moment_waits_for_its_turn(tmp_path):
    taken, enough = threading.Event(), threading.Event()

    def hold():
        with Lock(tmp_path / "a"):
            taken.set()
            enough.wait(10.0)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(10.0)
    threading.Timer(0.05, enough.set).start()
    with Lock(tmp_path / "a", waits=True), pytest.raises(InputError, match="changed by process"):
        Lock(tmp_path / "a")
    holder.join()


def test_a_holder_that_left_no_number_is_another_process(tmp_path):
    with Lock(tmp_path / "a"):
        (tmp_path / ".a.lock").write_text("")
        with pytest.raises(InputError, match="changed by another process"):
            Lock(tmp_path / "a")


@pytest.mark.parametrize("error", [NotImplementedError(), PermissionError(13, "no"), OSError(errno.ENOLCK, "no locks")])
def test_without_locks_of_the_file_system_there_is_none(error, tmp_path, monkeypatch):
    def refuse(self):
        raise error

    monkeypatch.setattr("thalweg.storage.lock.FileLock.acquire", refuse)
    with Lock(tmp_path / "a"), Lock(tmp_path / "a"):
        pass


def test_where_nothing_can_be_written_beside_a_folder_its_lock_is_inside(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with Lock(folder):
        assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_folder_that_is_a_link_to_itself_has_a_lock(tmp_path):
    (tmp_path / "run").symlink_to("run")
    with Lock(tmp_path / "run"):
        assert (tmp_path / ".run.lock").exists()


def test_a_link_in_its_place_is_no_lock(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".a.lock").symlink_to(tmp_path / "mine")
    with Lock(tmp_path / "a"), pytest.raises(InputError, match="changed by process"):
        Lock(tmp_path / "a")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
