import os
import re
import socket

import pytest

from thalweg.errors import InputError
from thalweg.storage.regular import open_regular, read_regular


def make(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


REFUSED = {
    "pipe": "a pipe, which can be read only once; save what it gives to a file first",
    "socket": "a socket; save what it gives to a file first",
    "folder": "a folder; name a file inside it",
    "device": "a device; name a file",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    make(kind, path := tmp_path / "x")
    with pytest.raises(InputError, match=re.escape(f"{path}: expected a regular file, got {REFUSED[kind]}.")):
        open_regular(path)


def test_a_file_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert read_regular(path, 3) == b"abc"
    with pytest.raises(InputError, match="expected a file of at most 2 bytes, got a larger one"):
        read_regular(path, 2)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "y", 2)
