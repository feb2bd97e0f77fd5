"""One file: whole or as before, whatever fails, and with the rights that the user's own files get."""

import errno
import os
import stat

import pytest

from thalweg.storage import files
from thalweg.storage.files import (
    leftovers,
    make_folder,
    remove,
    remove_folder,
    sum_of,
    sum_of_file,
    temporary_name,
    write_file,
    write_new,
)


def test_a_file_is_replaced_as_a_whole_and_its_sum_is_that_of_what_was_written(tmp_path):
    path = tmp_path / "a"
    assert write_file(path, "first") == sum_of(b"first")
    assert write_file(path, b"second") == sum_of(b"second") == sum_of_file(path)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_names_it(failing, tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_file(path, "old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, failing, full)
    with pytest.raises(OSError, match=r"No space left on device.*/a"):
        write_file(path, "new")
    assert (path.read_text(), leftovers(tmp_path), len(list(tmp_path.iterdir()))) == ("old", [], 1)


def test_a_link_is_replaced_and_not_followed(tmp_path):
    other, path = tmp_path / "other", tmp_path / "a"
    other.write_text("mine")
    path.symlink_to(other)
    write_file(path, "new")
    assert (other.read_text(), path.read_text(), path.is_symlink()) == ("mine", "new", False)
    with pytest.raises(FileExistsError, match="other"):
        write_new(other, b"new")


def test_rights_are_those_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_folder_that_is_removed_is_never_half_there(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "file").touch()
    monkeypatch.setattr(files.shutil, "rmtree", lambda *args, **kwargs: None)  # killed before it
    remove_folder(folder)
    assert not folder.exists()
    (left,) = leftovers(tmp_path)
    assert (left / "file").exists()
    remove_folder(folder)  # nothing to be done


def test_what_is_removed_is_a_link_and_never_what_it_leads_to(tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    (folder / "mine").touch()
    link.symlink_to(folder)
    remove_folder(link)
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "mine"]
    for path in (folder / "mine", folder, folder):
        remove(path)
    assert not list(tmp_path.iterdir())


def test_temporary_names_differ(tmp_path):
    assert temporary_name(tmp_path / "a") != temporary_name(tmp_path / "a")


def test_the_names_of_new_folders_are_on_the_disk_before_anything_is_in_them(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    assert (tmp_path / "a" / "b").is_dir()
