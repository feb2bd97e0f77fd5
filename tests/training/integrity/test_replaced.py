"""A run that is replaced goes; files of the user's own in its folder stay."""

import thalweg
from thalweg.training.integrity.claim import aside
from thalweg.training.integrity.replaced import drop

OPTIONS = {"model": "bag", "width": 4, "steps": 2, "optimizer": "adamw"}


def test_the_user_s_own_files_are_in_the_folder_of_the_run_that_replaces_theirs(reviews, tmp_path):
    folder = thalweg.train(reviews, out=tmp_path, name="a", **OPTIONS).folder
    expected = sorted(path.name for path in folder.iterdir())
    (folder / "notes.txt").write_text("mine")
    (folder / "plots").mkdir()
    (folder / "plots" / "a.png").write_text("mine, too")
    thalweg.train(reviews, out=tmp_path, name="a", overwrite=True, seed=1, **OPTIONS)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*expected, "notes.txt", "plots"])
    assert (folder / "plots" / "a.png").read_text() == "mine, too"
    assert not aside(folder).exists()
    assert thalweg.load(folder).recipe.run.seed == 1


def test_a_name_that_is_taken_is_kept_beside_it_and_a_link_is_removed_as_one(reviews, tmp_path):
    new = thalweg.train(reviews, out=tmp_path, name="new", **OPTIONS).folder
    old = thalweg.train(reviews, out=tmp_path, name="old", **OPTIONS).folder
    for folder in (new, old):
        (folder / "notes.txt").write_text(folder.name)
    drop(old, new)
    assert not old.exists()
    assert [(new / name).read_text() for name in ("notes.txt", "notes.txt.replaced")] == ["new", "old"]
    (tmp_path / "link").symlink_to(new)
    drop(tmp_path / "link", new)
    assert (new / "notes.txt").exists()
    assert not (tmp_path / "link").is_symlink()
