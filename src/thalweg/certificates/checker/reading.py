"""Reads a certificate's two files, the JSON and the .npz beside it, within limits of size; nothing is unpickled."""

import hashlib
import json
import math
import zipfile
from pathlib import Path

import numpy as np

MAX_BYTES = 2**29  # of all arrays together
MAX_TEXT = 2**24  # of the JSON


def fingerprint(arrays):
    """SHA-256 of arrays by name: their types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def read(path, need):
    """Return the content of a certificate file and its arrays; refuses what cannot be read or has been changed."""

    def refuse(word):
        raise ValueError(f"{word} is no number")

    path = Path(path)
    need(path.stat().st_size <= MAX_TEXT, f"{path} is larger than any certificate.")
    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    used = {v["array"] for level in content["levels"] for v in level["evidence"].values() if isinstance(v, dict)}
    need(used == set(content["arrays"]), "Arrays are missing, or nobody refers to them.")
    arrays, left = {}, MAX_BYTES
    if used:
        with zipfile.ZipFile(path.with_suffix(".npz")) as file:
            for name in sorted(used):
                arrays[name] = _array(file, name, left, need)
                left -= arrays[name].nbytes
    for name, expected in content["arrays"].items():
        need(fingerprint({name: arrays[name]}) == expected, f"The array {name} has been changed.")
    return content, arrays


def _array(file, name, left, need):
    """Return an array of the .npz; refuses one that is too large before it is inflated."""
    info = file.getinfo(f"{name}.npy")
    stored = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and not info.flag_bits & 1
    need(stored and info.file_size <= left + 1024, f"The array {name} is too large, encrypted or oddly compressed.")
    with file.open(info) as raw:
        version = np.lib.format.read_magic(raw)
        need(version == (1, 0), f"The array {name} has an unknown format.")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(raw)
        count = math.prod(shape)
        need(dtype.kind in "iufb" and count * dtype.itemsize <= left and len(shape) <= 4,
             f"The array {name} is empty, too large or of a kind that no certificate has.")  # fmt: skip
        data = raw.read(count * dtype.itemsize)
        need(len(data) == count * dtype.itemsize and not raw.read(1), f"The array {name} has another size.")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
