"""Streams on the command line: what is said, what is saved, and how it exits."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from thalweg.cli.main import run
from thalweg.online import load_online
from thalweg.online.learn import source_rows
from thalweg.storage.lock import Lock

ROWS = [{"text": "fine day" if k % 2 else "awful day", "label": "good" if k % 2 else "bad"} for k in range(64)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(stream, *arguments, source="-"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stream.encode())))
        with pytest.raises(SystemExit) as ended:
            run(["train", source, "--online", *arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


FAILS = {
    "every row rejected": (lines([{"text": "a b", "label": ["x"]}] * 5), (), "Every row was rejected (5); the last"),
    "no label": (lines([{"text": "a b"}] * 5), (), "Nothing was learned: no row had a label."),
    "another label": (lines(ROWS), ("--label-column", "gold"), "no row had a label in column 'gold' (--label-column"),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILS)
def test_a_stream_that_taught_nothing_fails_and_leaves_nothing(call, case):
    stream, arguments, message = FAILS[case]
    code, _, err = call(stream, *arguments)
    assert code == 1
    assert message in err
    assert not Path("runs/stream").exists()


def test_a_disk_that_was_full_at_the_first_save_does_not_stand_in_the_way(call):
    Path("runs/stream/.tmp-step-00000001").mkdir(parents=True)
    Path("runs/stream/.tmp-step-00000001/state.json").write_text("{")
    code, _, err = call(lines(ROWS))
    assert code == 0
    assert "Saved in runs/stream" in err
    assert load_online("runs/stream").progress.num_learned == 64


def test_the_reason_is_told_where_a_model_that_has_learned_gets_no_good_row(call):
    assert call(lines(ROWS))[0] == 0
    code, _, err = call(lines([{"text": "a b", "label": ["x"]}] * 5))
    assert code == 1
    assert "Every row was rejected (5); the last because: Expected a text or a finite number as label" in err
    assert load_online("runs/stream").progress.num_learned == 64
    code, _, err = call(lines([{"text": "a b"}] * 5))
    assert code == 0, "rows without label are predicted only"


def test_a_file_goes_on_behind_the_rows_it_has_seen(call):
    file = Path("log.jsonl")
    file.write_text(lines(ROWS[:40]))
    code, _, err = call("", source=str(file))
    assert (code, load_online("runs/log").progress.num_rows) == (0, 40)
    assert "Label column 'label' (of 'text', 'label'); --label-column chooses another." in err
    assert "Reads 'text' (text)." in err
    with file.open("a") as more:
        more.write(lines(ROWS[40:]))
    code, _, err = call("", source=str(file))
    assert (code, load_online("runs/log").progress.num_rows) == (0, 64)
    assert "Going on behind the first 40 rows of log.jsonl, which have been learned." in err
    code, _, err = call("", source=str(file))
    assert (code, load_online("runs/log").progress.num_rows) == (0, 64)
    assert "There were no new rows." in err
    file.write_text(lines(ROWS[1:]))
    code, _, err = call("", source=str(file))
    assert code == 2
    assert "has changed in the first 64 rows, which have been learned already" in err
    code, _, err = call("", "--overwrite", source=str(file))
    assert (code, load_online("runs/log").progress.num_rows) == (0, 63)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--label-column", "text"), "was begun with --label-column label (got text), and a stream keeps its options"),
        (("--lr", "0.1"), "was begun with --lr 0.7 (got 0.1)"),
        (("--task", "score"), "was begun with --task classify (got score)"),
        (("--vocabulary-size", "99"), "was begun with --vocabulary-size 262144 (got 99)"),
    ],
)
def test_options_that_contradict_the_stream_are_refused_by_name(call, arguments, message):
    assert call(lines(ROWS), "--lr", "0.7", "--label-column", "label")[0] == 0
    assert call(lines(ROWS), "--lr", "0.7", "--label-column", "label")[0] == 0
    code, _, err = call(lines(ROWS), *arguments)
    assert code == 2
    assert message in err
    assert load_online("runs/stream").progress.num_rows == 128


def test_a_recipe_is_no_stream(call):
    code, _, err = call("", source="recipe.toml")
    assert code == 2
    assert "recipe.toml is a recipe, and --online learns from rows" in err


def test_options_without_effect_on_streams_are_told(call):
    code, _, err = call(lines(ROWS), "--epochs", "5", "--model", "gru")
    assert code == 0
    assert "--epochs has no effect on --online." in err
    assert "--model has no effect on --online." in err


def test_a_folder_of_something_else_is_left_alone(call):
    Path("runs/stream").mkdir(parents=True)
    Path("runs/stream/recipe.toml").write_text("")
    code, _, err = call(lines(ROWS))
    assert code == 2
    assert "holds something else than a model of a stream; choose another --name" in err


def test_a_table_without_header_is_learned(call):
    code, _, err = call("".join(f"{row['text']} number {k},{row['label']}\n" for k, row in enumerate(ROWS)))
    assert code == 0
    assert "the columns are named column1, column2" in err
    assert "Label column 'column2'" in err
    assert load_online("runs/stream").progress.num_learned == 64


def test_what_was_learned_is_kept_when_nobody_reads_the_output(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "thalweg", "train", "-", "--online", "--out", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdin.write(lines(ROWS[:32]))
    process.stdin.flush()
    while "    32 " not in process.stderr.readline():
        pass
    process.stdout.close()
    process.stderr.close()
    process.stdin.write(lines(ROWS[32:]))
    process.stdin.close()
    process.wait(60)
    assert load_online(tmp_path / "stream").progress.num_rows == 64


def numbers(name, *, more=()):
    return lines([{"text": f"word{k % 3}", **dict(more), name: k % 3 + 0.5} for k in range(40)])


GUESSED = {
    "a usual name": (numbers("rating"), (), "number", "Task score: the column 'rating' holds numbers with decimals"),
    "the only name for it": (numbers("y"), (), "number", "Task score: the column 'y'"),
    "named": (numbers("temp"), ("--label-column", "temp"), "number", "Task score: the column 'temp'"),
    "beside a label": (numbers("score", more={"label": "a"}.items()), (), "label", "Label column 'label'"),
    "a task that was named": (numbers("rating"), ("--task", "classify"), "label", "Label column 'rating'"),
}


HALVES = [{"text": f"word{k % 3}", "rating": value} for k, value in enumerate([4, 5, 4.5, 3] * 5)]


def test_decimals_that_come_after_whole_numbers_are_told_and_in_a_file_looked_for(call):
    code, _, err = call(lines(HALVES))
    assert (code, err.count("The labels are numbers, and 4.5 has decimals; they are learned as classes.")) == (0, 1)
    assert "--task score --overwrite" in err
    Path("halves.jsonl").write_text(lines(HALVES))
    assert call("", source="halves.jsonl")[0] == 0
    assert load_online("runs/halves").label_role == "number"
    code, _, err = call(lines(HALVES), "--task", "classify", "--overwrite")
    assert (code, "have decimals" in err or "has decimals" in err) == (0, False)


@pytest.mark.parametrize("case", GUESSED)
def test_labels_with_decimals_are_numbers_unless_the_task_is_named(call, case):
    stream, arguments, role, message = GUESSED[case]
    code, _, err = call(stream, *arguments)
    assert (code, message in err) == (0, True), err
    assert load_online("runs/stream").label_role == role


ASKED = {
    "called otherwise": ("Body,other\nfine,1\n", (), 2, "has none of the columns that this model reads, 'text' (text)"),
    "named": ("Body,other\nfine,1\n", ("--text-column", "Body"), 0, ""),
    "named in vain": ("Body,other\nfine,1\n", ("--text-column", "x"), 2, "there is no column 'x'"),
    "the only column": ("Body\nfine\n", (), 0, "The only column, 'Body', is read as 'text'."),
    "another option": ("text\nfine\n", ("--columns", "x"), 2, "--columns: this model reads columns by their names"),
    "words": ("text\nfine\n", ("--tokens",), 2, "--tokens is for tag; this model, which learns"),
}


@pytest.mark.parametrize("case", ASKED)
def test_a_file_without_what_the_stream_had_is_not_answered_as_if_it_were_empty(call, capsys, case):
    content, arguments, expected, message = ASKED[case]
    call(lines(ROWS))
    Path("new.csv").write_text(content)
    with pytest.raises(SystemExit) as ended:
        run(["predict", "runs/stream", "--file", "new.csv", "--json", *arguments])
    out, err = capsys.readouterr()
    assert (ended.value.code, message in " ".join(err.split())) == (expected, True), err
    assert [json.loads(line)["label"] for line in out.splitlines()] == (["good"] if expected == 0 else [])


def test_a_folder_in_which_another_process_learns_is_refused_and_one_without_a_whole_checkpoint_is_new(call):
    Path("runs/stream/.tmp-step-00000001").mkdir(parents=True)
    with Lock(Path("runs/stream"), "trained"):
        code, _, err = call(lines(ROWS))
        assert (code, f"is being trained by process {os.getpid()}" in " ".join(err.split())) == (2, True), err
    code, _, err = call(lines(ROWS))
    assert (code, "Resuming" in err, load_online("runs/stream").progress.num_rows) == (0, False, 64)


def test_a_model_goes_only_when_the_one_that_replaces_it_has_learned(call):
    call(lines(ROWS))
    Path("runs/stream/note.txt").write_text("mine")
    for stream, code in (("", 2), (lines([{"text": "a b"}]), 1)):
        assert call(stream, "--overwrite")[0] == code
        assert load_online("runs/stream").progress.num_rows == 64
    assert call(lines(ROWS[:3]), "--overwrite")[0] == 0
    assert load_online("runs/stream").progress.num_rows == 3
    assert sorted(path.name for path in Path("runs/stream").iterdir()) == ["note.txt", "step-00000002"]


@pytest.mark.parametrize("stops", [(5,), (19, 20), (21,), (30, 31, 39)])
def test_a_file_without_a_usual_name_is_learned_alike_however_often_it_is_interrupted(call, monkeypatch, stops):
    late = [
        {"text": row["text"], "kind": f"n{k}"} | ({"label": row["label"]} if k > 30 else {})
        for k, row in enumerate(ROWS)
    ]
    Path("whole.jsonl").write_text(lines(late))
    assert call("", source="whole.jsonl")[0] == 0
    for stop in stops:
        with monkeypatch.context() as patched:
            patched.setattr("thalweg.cli.stream.source_rows", lambda source, stop=stop: interrupted(source, stop))
            assert call("", "--name", "broken", source="whole.jsonl")[0] == 128 + signal.SIGINT
    assert call("", "--name", "broken", source="whole.jsonl")[0] == 0
    whole, broken = load_online("runs/whole"), load_online("runs/broken")
    assert (whole.label_column, whole.progress.num_learned) == ("label", 33)
    whole.progress.seconds = broken.progress.seconds = 0.0
    assert str(whole.snapshot()) == str(broken.snapshot())


def interrupted(source, stop):
    """The rows of a source with a signal before one of them."""
    for number, row in enumerate(source_rows(source)):
        if number == stop:
            signal.raise_signal(signal.SIGINT)
        yield row
