"""The folder of a new run: as a whole, what it replaces stays until it has finished, and one for each of two runs."""

import threading

import pytest

from thalweg import InputError, train
from thalweg.storage.files import remove_folder
from thalweg.training.folder import checkpoint
from thalweg.training.integrity import new_folder
from thalweg.training.integrity.claim import Claim, aside
from thalweg.training.integrity.new_folder import NewFolder
from thalweg.training.integrity.run_files import RECIPE


def fill(folder, text, *, gives_way=False):
    return NewFolder(folder, {RECIPE: text.encode()}, RECIPE, gives_way=gives_way)


def test_what_is_replaced_stays_aside_and_comes_back_when_the_new_run_never_begins(tmp_path):
    folder = tmp_path / "a"
    fill(folder, "old")
    (folder / "mine").touch()
    new = fill(folder, "new")
    assert (folder / RECIPE).read_text() == "new"
    assert (aside(folder) / "mine").exists()
    new.discard()
    assert (folder / "mine").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_second_replacement_drops_what_was_begun_and_never_the_finished_run(tmp_path):
    folder = tmp_path / "a"
    fill(folder, "finished")
    fill(folder, "begun")
    fill(folder, "begun again", gives_way=True)
    assert (aside(folder) / RECIPE).read_text() == "finished"
    fill(folder, "finished, too")  # "begun again" has finished
    assert (aside(folder) / RECIPE).read_text() == "begun again"


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match=r"a is not a run folder \(it has no recipe.toml\)"):
        fill(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_left_of_a_run_makes_room_for_a_new_one(tmp_path):
    folder = tmp_path / "a"
    checkpoint.save(folder / "checkpoints", 1, {})
    fill(folder, "new")
    assert (folder / RECIPE).read_text() == "new"


def test_nothing_is_left_of_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    fill(tmp_path / "a", "old")
    monkeypatch.setattr(new_folder.Ledger, "create", full)
    with pytest.raises(OSError, match="No space"):
        fill(tmp_path / "a", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_killed_between_the_two_names_the_old_run_comes_back(tmp_path):
    folder = tmp_path / "a"
    fill(folder, "old")
    fill(folder, "new")
    remove_folder(folder)
    with Claim(folder):
        assert (folder / RECIPE).read_text() == "old"


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
