"""What a command has left behind: the same, bit for bit, but for times and that it was interrupted."""

import io
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from disturbing.machine import contents

TIMES = re.compile(r"seconds|_per_second|^pairs$")  # `pairs` of a comparison have seconds to a target
CHECKPOINT = re.compile(
    r"(.*?)(step-\d+)/"
)  # the newest is compared; the others are where a run was saved, and counted
HEAD = 8  # bytes of the length that a safetensors file begins with
UNCOMPARED = (".html",)  # pages show times; that they are whole is compared


def outcome(folder: Path) -> dict[str, Any]:
    """Return what is under a folder of runs, by place, in a form that compares."""
    found = contents(folder)
    steps = defaultdict(set)
    for place in found:
        if at := CHECKPOINT.match(place):
            steps[at[1]].add(at[2])
    older = tuple(f"{place}{step}/" for place, known in steps.items() for step in known - {max(known)})
    counts = {f"{place}step-*": len(known) for place, known in steps.items()}
    shown = {place: _comparable(place, data) for place, data in found.items() if not place.startswith(older)}
    return {place: value for place, value in shown.items() if not place.endswith(".lock")} | counts


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return what differs, in words."""
    said = []
    for place in sorted(found.keys() | expected.keys()):
        if place not in expected:
            said.append(f"{place} is left over")
        elif place not in found:
            said.append(f"{place} is missing")
        elif found[place] != expected[place]:
            said.append(f"{place} differs: {_how(found[place], expected[place])}")
    return said


def _how(found: Any, expected: Any, at: str = "") -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys(), key=str):
            if found.get(key) != expected.get(key):
                return _how(found.get(key), expected.get(key), f"{at}.{key}")
    if isinstance(found, list) and isinstance(expected, list):
        for number, (one, other) in enumerate(zip(found, expected, strict=False)):
            if one != other:
                return _how(one, other, f"{at}[{number}]")
        return f"{at} has {len(found)} entries instead of {len(expected)}"
    return f"{at} {str(found)[:80]!r} instead of {str(expected)[:80]!r}"


def _comparable(place: str, data: bytes | None) -> Any:
    name = place.rpartition("/")[2]
    if data is None:
        return None
    if name.endswith(UNCOMPARED):
        return data.rstrip().endswith(b"</html>")
    try:
        if name.endswith(".jsonl"):
            return [untimed(entry) for line in data.splitlines() if _counts(entry := json.loads(line))]
        if name.endswith(".json"):
            return untimed(json.loads(data))
        if name.endswith(".npz"):
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {key: arrays[key].tolist() for key in arrays}
        if name.endswith(".safetensors"):  # whose remarks are in any order
            length = int.from_bytes(data[:HEAD], "little")
            return {"head": json.loads(data[HEAD : HEAD + length]), "data": data[HEAD + length :]}
    except (ValueError, KeyError, RecursionError, BadZipFile) as error:
        return f"unreadable: {error}"
    if name.endswith(".log"):  # a comparison's studies: what came out of them is in its result
        return True
    return data


def _counts(entry: Any) -> bool:
    """Whether a line of a history is about the training, and not that it went on or was interrupted."""
    event = entry.get("event") if isinstance(entry, dict) else None
    return not (event == "resumed" or (event == "finished" and entry.get("status") == "INTERRUPTED"))


def untimed(value: Any) -> Any:
    """Return a value without times, and without checksums of files that hold times."""
    if isinstance(value, dict):
        if value.get("!") == "dict":  # of a checkpoint
            return {str(key): untimed(one) for key, one in value["items"] if not TIMES.search(str(key))}
        # Of checksums, what has one: some files hold times, and the remarks of a safetensors file are in any order.
        return {key: key if _is_checksum(one) else untimed(one) for key, one in value.items() if not TIMES.search(key)}
    return [untimed(one) for one in value] if isinstance(value, list) else value


def _is_checksum(value: Any) -> bool:
    value = value.get("sha256") if isinstance(value, dict) else value
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))
