"""The right to a run's folder: one at a time, and what a killed process has left beside it is put in order."""

import pytest

from thalweg.errors import InputError
from thalweg.training.integrity.claim import Claim, aside


def test_a_folder_has_one_owner_and_nothing_is_left_of_one_that_never_was(tmp_path):
    folder = tmp_path / "runs" / "a"
    with Claim(folder), pytest.raises(InputError, match=r"a is being trained by process \d+; wait until that ends"):
        Claim(folder)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_made_for_a_run_that_never_was_go_again(tmp_path):
    (tmp_path / "there").mkdir()
    Claim(tmp_path / "there" / "new" / "deep" / "run").release()
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]
    claim = Claim(tmp_path / "there" / "new" / "deep" / "run")
    (tmp_path / "there" / "new" / "mine.txt").touch()
    claim.release()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine.txt", "new", "there"]


def test_what_a_killed_process_has_left_unfinished_goes_and_other_things_stay(tmp_path):
    mine = [tmp_path / name for name in (".a.b.0123abcd.thalweg-tmp", ".a.0123.tmp", ".a.replaced", "a")]
    left = [tmp_path / f"{name}.0123abcd.thalweg-tmp" for name in (".a", "..a.replaced")]
    for path in (*mine, *left):
        path.mkdir()
    (tmp_path / ".a.89abcdef.thalweg-tmp").symlink_to(mine[-1])
    with Claim(tmp_path / "a"):
        pass
    assert sorted(tmp_path.iterdir()) == sorted(mine)


def test_a_run_that_was_put_aside_for_one_that_never_appeared_comes_back(tmp_path):
    aside(tmp_path / "a").mkdir()
    with Claim(tmp_path / "a"):
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["a"]


def test_where_no_folder_can_be_made_it_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written under .*file \(.*\); give --out"):
        Claim(tmp_path / "file" / "a")
