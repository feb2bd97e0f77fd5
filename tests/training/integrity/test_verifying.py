"""Everything in a folder is compared with what was written, and what can be repaired is."""

import json
import shutil

import pytest

import thalweg
from thalweg.cli.main import run as command
from thalweg.errors import InputError
from thalweg.training.integrity import checkpoint_names
from thalweg.training.integrity.claim import Claim, aside
from thalweg.training.integrity.verifying import WHOLE, verify

OPTIONS = {"model": "bag", "width": 4, "steps": 4, "optimizer": "adamw", "evaluate_every": 2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verified")
    rows = [f"{word} {mark} {number},{mark}" for number in range(12) for word, mark in (("fine", "a"), ("bad", "b"))]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return thalweg.train(folder / "rows.csv", out=folder, name="run", **OPTIONS).folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def test_a_run_is_whole_and_its_files_and_checkpoints_are_all_looked_at(run):
    found = verify(run)
    assert found.is_whole
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert names == set(found.files)
    assert (found.repairs, found.notes) == ((), ("The run completed all of its steps.",))


def test_every_damaged_file_is_named(run, capsys):
    for path in [path for path in run.rglob("*") if path.is_file()]:
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
        name = path.relative_to(run).as_posix()
        damaged = {one: state for one, state in verify(run).files.items() if state != WHOLE}
        assert list(damaged) == [name]
        path.write_bytes(whole)
    (run / "labels.json").unlink()
    (run / "model.safetensors").write_bytes(b"short")
    with pytest.raises(SystemExit, match="1"):
        command(["verify", str(run)])
    said = capsys.readouterr().out
    assert "labels.json is missing.\n" in said
    assert "model.safetensors is damaged (5 bytes long instead of " in said
    with pytest.raises(SystemExit, match="1"):
        command(["verify", str(run), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["whole"], found["files"]["labels.json"]) == (False, "missing")


def test_what_killed_processes_left_is_put_in_order(run):
    left = [run.with_name(".run.0123abcd.thalweg-tmp"), run / "checkpoints" / ".step-00000009.0123abcd.thalweg-tmp"]
    for path in left:
        path.mkdir()
    (run / ".metrics.json.new.thalweg-tmp").write_text("{")
    shutil.copytree(run, aside(run))
    (run / "mine.txt").write_text("a user's own")
    found = verify(run)
    assert found.is_whole
    assert len(found.repairs) == 4
    assert not [path for path in (*left, aside(run)) if path.exists()]
    assert (run / "mine.txt").read_text() == "a user's own"


def test_a_run_that_is_to_be_replaced_stays_until_the_other_has_finished_and_can_be_had_back(run):
    shutil.copytree(run, aside(run))
    thalweg.load(run).ledger.write({}, removed=["metrics.json"])
    (note, *_) = verify(run).notes
    assert note.endswith("To have it back, remove " + f"{run} and verify again.")
    shutil.rmtree(run)
    assert verify(run).repairs == (f"put {aside(run)} back, for which no other run has appeared",)
    assert thalweg.load(run).finished


def test_an_unfinished_run_says_where_it_goes_on_and_its_history_is_compared_too(run):
    thalweg.load(run).ledger.write({}, removed=["metrics.json"], forgotten=["history.jsonl"])
    found = verify(run)
    assert found.files["history.jsonl"] == WHOLE
    assert found.notes == ("The run goes on behind 4 steps by the same command.",)
    newest = checkpoint_names.latest(run / "checkpoints")
    (newest / "state.json").write_text("{}")
    older = checkpoint_names.steps(run / "checkpoints")[0]
    assert verify(run).notes == (f"The run goes on behind 2 steps with thalweg train --resume-from {older}.",)
    lines = (run / "history.jsonl").read_text().splitlines(keepends=True)
    (run / "history.jsonl").write_text("".join([lines[0], "{broken\n", *lines[2:]]))
    found = verify(run)
    assert found.files["history.jsonl"] == "damaged in line 2"
    assert not found.notes
    (run / "history.jsonl").unlink()
    shutil.rmtree(run / "checkpoints")
    assert verify(run).notes[0].startswith("The run has not begun")


@pytest.mark.parametrize("name", [".", "../run", "checkpoints/.."])
def test_a_run_is_found_by_any_name_that_it_has_from_inside(run, monkeypatch, name):
    left = run.with_name(".run.0123abcd.thalweg-tmp")
    left.mkdir()
    monkeypatch.chdir(run)
    assert verify(name).is_whole
    assert not left.exists()
    with (
        Claim(run),
        pytest.raises(InputError, match="run is being trained by process"),
    ):
        verify(name)
    with pytest.raises(InputError, match="/ is no folder that a run can have"):
        verify("/")


def test_what_is_no_run_or_is_at_work_is_told(run, tmp_path):
    for folder in (tmp_path / "none" / "x", tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="no run folder"):
            verify(folder)
    with Claim(run), pytest.raises(InputError, match="run is being trained by process"):
        verify(run)


def test_a_damaged_ledger_is_not_blamed_on_the_recipe(run):
    whole = (run / "manifest.json").read_text()
    (run / "manifest.json").write_text(whole.replace('"bytes": 1', '"bytes": 2', 1))
    with pytest.raises(InputError, match=r"manifest\.json is damaged \(its checksum differs\)"):
        thalweg.load(run)
    (run / "manifest.json").write_text(whole)
    (run / "recipe.toml").write_text((run / "recipe.toml").read_text().replace("seed = 0", "seed = 1"))
    with pytest.raises(InputError, match=r"recipe\.toml has changed since the run was made"):
        thalweg.load(run)
