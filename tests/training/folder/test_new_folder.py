"""The folder of a new run: as a whole, and one for each of two runs that begin at once."""

import threading

import pytest

from thalweg import InputError, train
from thalweg.training.folder.new_folder import NewFolder
from thalweg.training.folder.run import RECIPE


def fill(folder):
    (folder / RECIPE).write_text("new")


def test_a_run_that_is_there_is_replaced_only_if_that_is_wanted_and_comes_back(tmp_path):
    folder = tmp_path / "runs" / "a"
    NewFolder(folder, fill, RECIPE, replaces=False).keep()
    (folder / "old").touch()
    with pytest.raises(FileExistsError, match="is there already"):
        NewFolder(folder, fill, RECIPE, replaces=False)
    NewFolder(folder, fill, RECIPE, replaces=True).discard()
    assert (folder / "old").exists()
    NewFolder(folder, fill, RECIPE, replaces=True).keep()
    assert [path.name for path in folder.parent.iterdir()] == ["a"]
    assert not (folder / "old").exists()


def test_nothing_is_left_of_a_folder_that_cannot_be_filled(tmp_path):
    def broken(folder):
        fill(folder)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        NewFolder(tmp_path / "a", broken, RECIPE, replaces=False)
    assert list(tmp_path.iterdir()) == []


def test_another_run_that_begins_meanwhile_keeps_its_folder(tmp_path):
    def late(folder):
        fill(folder)
        NewFolder(tmp_path / "a", fill, RECIPE, replaces=False)

    with pytest.raises(FileExistsError, match="is there already"):
        NewFolder(tmp_path / "a", late, RECIPE, replaces=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_trainings_that_begin_at_once_get_a_folder_each(reviews, tmp_path):
    found = []

    def begin(seed):
        found.append(train(str(reviews), seed=seed, fast=True, out=tmp_path).folder.name)

    threads = [threading.Thread(target=begin, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == sorted(found)
