"""Which folder a run has: looking writes nothing, and claiming decides what two processes that begin at once get."""

import dataclasses

import pytest

from thalweg import InputError, train
from thalweg.errors import shown
from thalweg.storage.ledger import Ledger
from thalweg.training.integrity import placing
from thalweg.training.integrity.claim import Claim
from thalweg.training.integrity.placing import Wanted, folder_name, renamed
from thalweg.training.integrity.verifying import verify

OPTIONS = {"model": "bag", "width": 4, "steps": 2, "optimizer": "adamw"}


@pytest.mark.parametrize(("name", "folder"), [
    ("reviews-2.b_1", "reviews-2.b_1"), ("v1.csv", "v1.csv"), ("caf\u00e9", "caf\u00e9"), ("cafe\u0301", "caf\u00e9"),
    (".", "run"), ("..", "run"), ("a/b", "a-b"), ("/abs", "abs"), ("../../escape", "escape"), ("-x", "x"),
    ("a\nb", "a-b"),
    ("a\x1b[31mb", "a-31mb"), ("a\x00b", "a-b"), ("dots..", "dots"), ("spaces ", "spaces"), (".x.lock", "x.lock"),
    (".x.replaced", "x.replaced"), (".x.12345678.thalweg-tmp", "x.12345678.thalweg-tmp"), ("\u202eabc", "abc"),
    ("\U0001f600", "run"), ("x" * 300, "x" * 200), ("\u00e9" * 150, "\u00e9" * 100), ("*", "run"),
    ("<script>alert(1)</script>", "script-alert-1-script"),
])  # fmt: skip
def test_a_name_that_is_no_folder_is_told_with_the_one_that_is(name, folder):
    assert folder_name(name) == folder_name(folder) == folder
    assert len(f".{folder}.12345678.thalweg-tmp".encode()) < 255
    told = renamed(name)
    assert bool(told) == (name != folder)
    assert all(
        f"is {shown(folder)} as the name of a folder" in sentence and sentence.isprintable() for sentence in told
    )


def test_a_run_has_the_name_that_was_given(reviews, tmp_path):
    said = []
    run = train(reviews, out=tmp_path, name="a/b.csv", say=said.append, **OPTIONS)
    assert (run.folder.name, run.recipe.run.name) == ("a-b.csv", "a-b.csv")
    assert [sentence for sentence in said if sentence.startswith("--name 'a/b.csv' is 'a-b.csv'")]


@pytest.fixture
def unfinished(reviews, tmp_path):
    run = train(reviews, out=tmp_path / "runs", **OPTIONS)
    run.ledger.write({}, removed=["metrics.json"], forgotten=["history.jsonl"])
    return run


def wanted(run, **changes):
    return dataclasses.replace(Wanted(run.folder.parent, run.recipe, False, False, None), **changes)


def test_looking_and_claiming_agree(unfinished, reviews, tmp_path):
    folder, other = unfinished.folder, unfinished.recipe.with_(lr=0.5)
    for one, expected in (
        (wanted(unfinished), (folder, True)),
        (wanted(unfinished, overwrite=True), (folder, False)),
        (wanted(unfinished, recipe=other), (folder.with_name("reviews-2"), False)),
        (wanted(unfinished, out=tmp_path / "none"), (tmp_path / "none" / "reviews", False)),
        (wanted(unfinished, resume=folder), (folder, True)),
    ):
        assert one.look() == expected
        assert not (tmp_path / "none").exists()
        claim, goes_on, _ = one.claim()
        assert (claim.folder, goes_on) == expected
        claim.release()


def test_a_run_that_another_process_trains_is_told_and_others_take_the_next_name(unfinished, reviews):
    with Claim(unfinished.folder):
        with pytest.raises(InputError, match="reviews is being trained by process"):
            train(reviews, out=unfinished.folder.parent, **OPTIONS)
        with pytest.raises(InputError, match="reviews is being trained by process"):
            train(reviews, out=unfinished.folder.parent, overwrite=True, **OPTIONS)
        assert train(reviews, out=unfinished.folder.parent, **OPTIONS, lr=0.5).folder.name == "reviews-2"


def test_a_run_that_has_begun_and_cannot_be_read_is_named_and_not_trained_again_beside_it(unfinished, reviews):
    (unfinished.folder / "recipe.toml").unlink()
    with pytest.raises(InputError, match=r"reviews is not a run folder.* Or give another --name, or start over with"):
        train(reviews, out=unfinished.folder.parent, **OPTIONS)
    again = train(reviews, out=unfinished.folder.parent, overwrite=True, **OPTIONS)
    assert again.folder == unfinished.folder


def test_a_run_that_was_killed_while_its_last_files_took_their_names_is_completed(reviews, tmp_path, monkeypatch):
    class Killed(BaseException):
        """The process is gone."""

    whole = train(reviews, out=tmp_path / "whole", **OPTIONS)
    real = Ledger._complete

    def killing(ledger, *, known):
        if known and "metrics.json" in ledger.sums:
            raise Killed("here")
        return real(ledger, known=known)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_complete", killing)
        with pytest.raises(Killed, match="here"):
            train(reviews, out=tmp_path / "cut", **OPTIONS)
    assert not (tmp_path / "cut" / "reviews" / "report.html").exists()
    again = train(reviews, out=tmp_path / "cut", **OPTIONS)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["reviews"]
    assert again.finished
    assert again.metrics == whole.metrics
    assert verify(again.folder).is_whole
    assert (again.folder / "report.html").exists()


def test_a_place_where_nothing_can_be_written_is_told_at_once(unfinished, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(placing.time, "sleep", lambda seconds: pytest.fail("waits for nothing"))
    with pytest.raises(InputError, match="cannot be written under"):
        wanted(unfinished, out=tmp_path / "file").claim()


def test_a_folder_that_is_about_to_appear_is_waited_for(unfinished, tmp_path, monkeypatch):
    claim = Claim(tmp_path / "soon")
    monkeypatch.setattr(placing.time, "sleep", lambda seconds: claim.release())
    placing._claimed(tmp_path / "soon").release()
