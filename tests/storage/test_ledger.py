"""A ledger: damage of any file is named, and a change of several files is made as a whole wherever a kill comes."""

import json
import os
import shutil

import pytest

from thalweg.errors import InputError
from thalweg.storage import files, ledger
from thalweg.storage.files import sum_of
from thalweg.storage.ledger import MANIFEST, Ledger

OLD = {"a": b"old a", "b": b"old b"}
NEW = {"a": b"new a", "c": b"new c"}


class Killed(BaseException):
    """The process is gone."""


def killed(self, *, known):
    if known:
        raise Killed("here")
    return []


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    Ledger.create(folder, OLD, {"step": 3})
    return folder


def contents(folder):
    found = Ledger(folder)
    return {name: found.read(name) for name in found.sums}


def test_what_was_written_is_read_with_what_is_said_about_it(folder):
    assert contents(folder) == OLD
    assert Ledger(folder).about == {"step": 3}
    assert "a" in Ledger(folder)
    assert "x" not in Ledger(folder)


def test_a_folder_is_given_its_ledger_as_a_whole(tmp_path, monkeypatch):
    """A kill while it is written leaves a folder that is given one again."""

    def kill(*_):
        raise Killed("here")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", kill)
        with pytest.raises(Killed, match="here"):
            Ledger.at(tmp_path)
    assert MANIFEST not in os.listdir(tmp_path)
    Ledger.at(tmp_path).write(OLD)
    assert contents(tmp_path) == OLD


def is_same_json(one, other):
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["a", "b", MANIFEST])
def test_every_flip_and_every_length_is_named(name, folder):
    whole = (folder / name).read_bytes()
    damaged = [whole[:end] for end in range(len(whole))] + [whole + b" ", bytes(len(whole))]
    for bit in (1, 32):
        damaged += [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at in range(len(whole))]
    for one in damaged[:: 5 if name == MANIFEST else 1]:
        (folder / name).write_bytes(one)
        if name == MANIFEST and is_same_json(one, whole):  # white space changes nothing
            Ledger(folder).verify()
            continue
        with pytest.raises(InputError, match=name):
            Ledger(folder).verify()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        Ledger(folder).verify()


def test_a_change_writes_removes_notes_and_forgets(folder):
    (folder / "log").write_text("two lines")
    (folder / "mine").write_text("a user's own")
    Ledger(folder).write(NEW, removed=["b", "unknown"], noted={"log": sum_of(b"two lines")})
    assert contents(folder) == {**NEW, "log": b"two lines"}
    assert sorted(path.name for path in folder.iterdir()) == ["a", "c", "log", MANIFEST, "mine"]
    Ledger(folder).write({}, forgotten=["log"])
    assert contents(folder) == NEW
    assert (folder / "log").exists()
    assert Ledger(folder).about == {"step": 3}


def test_a_change_is_made_as_a_whole_wherever_a_kill_comes(folder, monkeypatch):
    outcomes = []
    for number in range(1, 100):
        copy = folder.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        left = [number]

        def killing(original, left=left):
            def operation(*args, **kwargs):
                left[0] -= 1
                if left[0] <= 0:  # nothing is done any more, not even by what would clean up
                    raise Killed
                return original(*args, **kwargs)

            return operation

        with monkeypatch.context() as patch:
            for name in ("replace", "unlink", "fsync", "open"):
                patch.setattr(os, name, killing(getattr(os, name)))
            patch.setattr("builtins.open", killing(open))
            try:
                Ledger(copy).write(NEW, removed=["b"])
            except Killed:
                pass
            else:
                break
        Ledger(copy).complete()
        outcomes.append(contents(copy))
        assert outcomes[-1] in (OLD, NEW)
        assert outcomes[-1] == OLD or not (copy / "b").exists()
        Ledger(copy).write({"a": b"newer"})
        assert not [path for path in copy.iterdir() if path.name.startswith(".")]
    else:
        raise AssertionError("the change never came to its end")
    assert OLD in outcomes
    assert NEW in outcomes


def test_a_failure_before_the_moment_changes_nothing(folder, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger, "write_file", full)
    found = Ledger(folder)
    with pytest.raises(OSError, match="No space"):
        found.write(NEW, removed=["b"])
    assert contents(folder) == OLD == {name: found.read(name) for name in found.sums}
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b", MANIFEST]


def test_a_reader_finds_the_content_that_waits_for_its_name(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_complete", killed)
        with pytest.raises(Killed, match="here"):
            Ledger(folder).write(NEW, removed=["b"])
    found = Ledger(folder)
    assert not found.is_complete
    assert found.path("a").name == ".a.new.thalweg-tmp"
    assert contents(folder) == NEW
    assert found.complete() == ["a", "c", "b"]
    assert found.is_complete
    assert Ledger(folder).path("a").name == "a"


def test_a_reader_sees_what_another_process_has_written_meanwhile(folder):
    early = Ledger(folder)
    Ledger(folder).write(NEW)
    assert early.read("a") == b"new a"


def test_a_second_name_of_a_file_has_its_sum(folder, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    Ledger.create(other, {}, links={"best": (folder / "a", sum_of(OLD["a"]))})
    assert (other / "best").stat().st_ino == (folder / "a").stat().st_ino
    monkeypatch.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError(1, "no links")))
    copied = tmp_path / "copied"
    copied.mkdir()
    Ledger.create(copied, {}, links={"best": (folder / "a", sum_of(OLD["a"]))})
    Ledger(folder).write(NEW)
    assert contents(other) == contents(copied) == {"best": OLD["a"]}


def changed(**values):
    return {"format": 2, "files": {}, "about": {}, "moved": [], "removed": [], **values}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1], "expected an object, got .1."),
        ({"format": 2, "files": 7}, "expected an object at files, got 7"),
        ({"format": 3, "files": {}}, "has format 3; this version reads 2"),
        ({"format": 2, "files": {}}, "its checksum differs"),
        (changed(files={"a": 1}), "expected an object at files.a, got 1"),
        (changed(files={"a": {"bytes": "9" * 5000, "sha256": ""}}), "expected a whole number .* at files.a.bytes"),
        (changed(files={"a": {"bytes": 1e308, "sha256": ""}}), "expected a whole number .* at files.a.bytes"),
        (changed(files={"\ud800": {"bytes": 1, "sha256": ""}}), "expected a text without half characters"),
        (changed(about=[]), "expected an object at about"),
        (changed(moved="x"), "expected a list at moved"),
        (changed(removed=["../x"]), "'../x' is not the name of a file"),
        (changed(removed=["/etc/passwd"]), "'/etc/passwd' is not the name of a file"),
        (changed(removed=[".."]), "'..' is not the name of a file"),
        (changed(removed=["x" * 300]), "'x+\\.\\.\\. is not the name of a file"),
        (changed(moved=["x"]), "it has no checksum of 'x'"),
    ],
)
def test_a_stranger_s_ledger_is_refused_in_a_sentence(content, match, folder):
    if isinstance(content, dict) and "moved" in content:
        content["sum"] = ledger._sum_of_content(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(InputError, match=match):
        Ledger(folder)


def test_a_ledger_of_many_missing_files_is_read_once(folder, monkeypatch):
    known = changed(files={f"x{k}": {"bytes": 1, "sha256": ""} for k in range(100)})
    (folder / MANIFEST).write_text(json.dumps(known | {"sum": ledger._sum_of_content(known)}))
    stranger, read = Ledger(folder), []
    monkeypatch.setattr(ledger, "parse_json", lambda *arguments: read.append(arguments))
    for name in stranger.sums:
        with pytest.raises(InputError, match=f"{name} is missing"):
            stranger.path(name)
    assert not read


def test_files_module_is_what_the_ledger_writes_with(folder, monkeypatch):
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(5, "no")))
    with pytest.raises(OSError, match=r"\.a\.new|a"):
        Ledger(folder).write({"a": b"new"})
    assert contents(folder) == OLD
