"""Files of a stranger's run, changed at random with fitting checksums: a sentence or an answer, never a traceback.

Some of the changes of `benchmarks/fuzz.py`, which has many more, of every kind of run.
"""

import random
import re

import pytest
from disturbing.mutations import ask, change, commands, copied, make, reseal, write_data

import thalweg
from thalweg.errors import InputError

# What is changed in which run, and the command that reads it.
KINDS = [
    ("bag", "recipe.toml", "predict"),
    ("bag", "manifest.json", "predict"),
    ("bag", "data.json", "predict"),
    ("bag", "model.safetensors", "predict"),
    ("begun", "data.json", "resume"),
    ("begun", "history.jsonl", "resume"),
    ("begun", "checkpoints/step-00000002/manifest.json", "resume"),
    ("begun", "checkpoints/step-00000002/state.json", "resume"),
    ("begun", "checkpoints/step-00000002/state.safetensors", "resume"),
]
SEEDS = 3


@pytest.fixture(scope="module")
def specimens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("specimens")
    write_data(folder)
    return folder, {name: make(name, folder) for name in ("bag", "begun")}


@pytest.mark.parametrize(("name", "file", "command"), KINDS)
def test_a_changed_file_is_refused_in_a_sentence_or_harmless(specimens, tmp_path, name, file, command):
    folder, runs = specimens
    for seed in range(SEEDS):
        run = copied(runs[name], tmp_path / name)
        path = run / file
        path.write_bytes(change(random.Random(f"{file} {seed}"), path.name, path.read_bytes()))
        reseal(run)
        code, said = ask(*commands(name, run, folder)[command])
        assert code in (0, 2), (seed, said)
        assert "Traceback" not in said, (seed, said)


def rewritten(run, name, *changed):
    path = run / name
    text = path.read_text()
    assert changed[0] in text
    path.write_text(text.replace(*changed, 1))
    reseal(run)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (('"score"', '"scores"'), "KeyError: 'score'"),
        (('"hex"', '"hexx"'), "KeyError: 'hex'"),
        (('{"!": "tensor"', '{"!": "code"'), "there is no kind 'code'"),
        (('["step", 2], ["score"', '["step", "x"], ["score"'), "expected a whole number"),
    ],
)
def test_a_checkpoint_of_another_form_is_named(specimens, tmp_path, changed, said):
    folder, runs = specimens
    run = copied(runs["begun"], tmp_path / "begun")
    rewritten(run, "checkpoints/step-00000002/state.json", *changed)
    code, told = ask(*commands("begun", run, folder)["resume"])
    assert code == 2, told
    told = " ".join(told.split())
    assert "state.json is damaged, or from another model or optimizer" in told
    assert said in told
    assert "--resume-from" in told


@pytest.mark.parametrize(
    ("run", "name", "changed", "said"),
    [
        ("begun", "recipe.toml", ("width = 4 ", "width = 4000 "), "larger than its weights"),
        ("bag", "recipe.toml", ("\ndropout = 0.", "\ndropout = 7."), "recipe.toml: --dropout must lie"),
        ("bag", "data.json", ('"columns"', '"column"'), "data.json is damaged .expected 'columns', which is missing"),
        ("bag", "labels.json", ('"b"', "7"), "labels.json is damaged"),
    ],
)
def test_a_file_of_another_form_is_named(specimens, tmp_path, run, name, changed, said):
    folder, runs = specimens
    place = copied(runs[run], tmp_path / run)
    rewritten(place, name, *changed)
    code, told = ask(*commands(run, place, folder)["predict"])
    assert code == 2, told
    assert re.search(said, " ".join(told.split())), told


def test_a_damaged_line_of_a_history_is_named_where_its_checksum_fits(specimens, tmp_path):
    run = copied(specimens[1]["bag"], tmp_path / "bag")
    lines = (run / "history.jsonl").read_bytes().splitlines(keepends=True)
    (run / "history.jsonl").write_bytes(b"".join([lines[0], b'{"event": 7}\n', *lines[1:]]))
    reseal(run)
    with pytest.raises(InputError, match=r"history.jsonl is damaged in line 2; restore it or train the run again"):
        assert thalweg.load(run).history
    code, told = ask("certify", run, "--seconds", "9", "--quiet")
    assert code == 0, told
    assert "Line 2 of history.jsonl is damaged" in (run / "report.html").read_text()


@pytest.mark.parametrize("command", ["predict", "evaluate", "certify", "diagnose", "start", "check"])
def test_a_file_whose_checksum_differs_is_not_parsed(specimens, tmp_path, command):
    folder, runs = specimens
    run = copied(runs["bag"], tmp_path / "bag")
    (run / "features.safetensors").write_bytes(b"x")
    code, told = ask(*commands("bag", run, folder)[command])
    assert code == 2, told
    assert "features.safetensors is damaged (1 bytes long instead of" in " ".join(told.split())
