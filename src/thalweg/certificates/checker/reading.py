"""Reads a certificate's two files, the JSON and the .npz beside it, within limits of size; nothing is unpickled.

The arrays are stored as they are, without compression, so that no file takes more memory than it has bytes.
"""

import hashlib
import json
import math
import stat
import zipfile
from pathlib import Path

import numpy as np

MAX_BYTES = 2**28  # of all arrays together, if every number had eight
MAX_TEXT = 2**22  # of the JSON
MAX_LEVELS = 32
MAX_DIRECTORY = 2**18  # of the .npz's table of contents
END = b"PK\x05\x06"  # begins the last 22 bytes of a zip file without a comment
TYPES = ("<f8", "<f4", "<i8", "<i4", "|i1", "|b1")


def fingerprint(arrays):
    """SHA-256 of arrays by name: their types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def plain(text, most=1000):
    """Return text for a terminal: no control characters (a newline is a space), and not too much of it."""
    text = str(text)[: most + 1]
    text = "".join(c if c.isprintable() else " " if c == "\n" else "?" for c in text)
    return text if len(text) <= most else text[: most - 3] + "..."


def read(path, need):
    """Return the content of a certificate file and its arrays; refuses what cannot be read or has been changed."""
    path = Path(path)
    with _open(path, MAX_TEXT, need) as file:
        content = json.loads(file.read(MAX_TEXT).decode(), parse_constant=_refuse, object_pairs_hook=_once)
    parts = [content.get("levels"), content.get("arrays")] if isinstance(content, dict) else []
    need(list(map(type, parts)) == [list, dict], "It cannot be read as a certificate: it has no levels and no arrays.")
    need(len(content["levels"]) <= MAX_LEVELS, "There are more levels than any certificate has.")
    used = {v["array"] for level in content["levels"] for v in level["evidence"].values() if isinstance(v, dict)}
    need(used == set(content["arrays"]), "Arrays are missing, or nobody refers to them.")
    arrays, left = {}, MAX_BYTES
    if used:
        with _open(path.with_suffix(".npz"), MAX_BYTES + 2**24, need) as raw:
            _look_at_end(raw, need)
            with zipfile.ZipFile(raw) as file:
                there = sorted(info.filename for info in file.infolist())
                fits = there == sorted(f"{name}.npy" for name in used)
                need(fits, "The .npz holds other arrays than the JSON names.")
                for name in sorted(used):
                    arrays[name] = _array(file, name, left, need)
                    left -= 8 * arrays[name].size
    for name, expected in content["arrays"].items():
        need(fingerprint({name: arrays[name]}) == expected, f"The array {name} has been changed.")
    return content, arrays


def _refuse(word):
    raise ValueError(f"{word} is no number")


def _once(pairs):
    """Return an object of the JSON; refuses one with a key twice, of which every reader would see another."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _open(path, most, need):
    """Return an open file; refuses pipes and devices, which may never end, and what is too large."""
    status = path.stat()
    need(stat.S_ISREG(status.st_mode), "it is no file" if path.suffix != ".npz" else "its .npz is no file")
    need(status.st_size <= most, "it is larger than any certificate")
    return path.open("rb")


def _look_at_end(raw, need):
    """Refuse an .npz whose table of contents would fill the memory."""
    raw.seek(0, 2)
    need(raw.tell() >= 42, "Its .npz has been cut off.")
    raw.seek(-42, 2)
    end = raw.read(42)
    ok = end[20:24] == END and end[:4] != b"PK\x06\x07" and int.from_bytes(end[32:36], "little") <= MAX_DIRECTORY
    need(ok, "Its .npz has been cut off, or its table of contents is larger than that of any certificate.")


def _array(file, name, left, need):
    """Return an array of the .npz; refuses one that is too large before it is read."""
    info = file.getinfo(f"{name}.npy")
    stored = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
    need(stored and info.file_size == info.compress_size <= left + 1024,
         f"The array {name} is too large, encrypted or compressed.")  # fmt: skip
    with file.open(info) as raw:
        need(np.lib.format.read_magic(raw) == (1, 0), f"The array {name} has an unknown format.")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(raw)
        need(dtype.str in TYPES and len(shape) <= 4 and all(type(size) is int and size >= 0 for size in shape),
             f"The array {name} is of a kind that no certificate has.")  # fmt: skip
        size = math.prod(shape) * dtype.itemsize
        need(8 * math.prod(shape) <= left, f"The array {name} is too large.")
        data = raw.read(size) if size else b""
        need(len(data) == size and not raw.read(1), f"The array {name} has another size.")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
