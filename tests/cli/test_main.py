"""The command line as a person uses it: what it prints, where, and how it exits."""

import fcntl
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from thalweg.cli.main import run
from thalweg.cli.options import plain, to_options
from thalweg.training.recipe.options import OPTIONS


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(200)]
    path = tmp_path / "reviews.csv"
    path.write_text("review,stars\n" + "\n".join(rows) + "\n")
    return path


def call(capsys, *arguments):
    """Run the command line in this process; return exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def train(capsys, *arguments):
    return call(capsys, "train", *arguments, "--width", 4, "--epochs", 8, "--lr", 0.05, "--model", "bag")


def test_train_predict_evaluate(reviews, capsys):
    code, out, err = train(capsys, reviews)
    assert code == 0
    assert "Text column 'review', label column 'stars'" in err
    assert "Report: runs/reviews/report.html" in out
    code, out, err = call(capsys, "predict", "runs/reviews", "fine thing 3", "awful thing 4")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == ["good", "bad"]
    code, out, err = call(capsys, "evaluate", "runs/reviews", reviews)
    assert code == 0
    assert "accuracy" in out
    assert out.rstrip().endswith("neither figures nor intervals are about new data.")


def test_json_has_its_stable_keys_and_nothing_else_on_standard_output(reviews, capsys):
    code, out, _ = train(capsys, reviews, "--json")
    assert code == 0
    summary = json.loads(out)
    measured = {"metrics", "intervals", "num_examples", "baselines"}
    assert set(summary) == {"run", "task", "model", "optimizer", "steps", "seconds", "status", "verdict", *measured}
    assert (summary["task"], summary["status"]) == ("classify", "COMPLETED")
    assert 0.0 <= summary["metrics"]["accuracy"] <= 1.0
    code, out, _ = call(capsys, "evaluate", "runs/reviews", reviews, "--json")
    of_file = {"num_rows", "num_left_out", "left_out", "notes", "labels", "averages", "confusion"}
    assert set(json.loads(out)) == {"run", *measured, *of_file}
    low, high = json.loads(out)["intervals"]["accuracy"]
    assert 0.0 <= low <= json.loads(out)["metrics"]["accuracy"] <= high <= 1.0
    code, out, _ = call(capsys, "predict", "runs/reviews", "fine thing", "--json", "--top", 2)
    answer = json.loads(out)
    assert answer["label"] == "good"
    assert [set(entry) for entry in answer["top"]] == [{"label", "probability"}] * 2


def test_predict_reads_files_and_standard_input(reviews, capsys, monkeypatch, tmp_path):
    train(capsys, reviews, "--quiet")
    (tmp_path / "new.csv").write_text("review\nfine thing\nawful thing\nfine thing\n")
    (tmp_path / "new.txt").write_text("awful thing\nfine thing\n")
    for name, labels in (("new.csv", ["good", "bad", "good"]), ("new.txt", ["bad", "good"])):
        code, out, _ = call(capsys, "predict", "runs/reviews", "--file", name, "--json")
        assert code == 0
        assert [json.loads(line)["label"] for line in out.splitlines()] == labels
    with open(tmp_path / "new.txt") as file:
        monkeypatch.setattr("sys.stdin", file)
        _, out, _ = call(capsys, "predict", "runs/reviews", "--json")
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["bad", "good"]


def test_quiet_says_nothing(reviews, capsys):
    code, out, err = train(capsys, reviews, "--quiet")
    assert (code, out, err) == (0, "", "")


def test_data_shows_what_is_in_a_file(reviews, capsys):
    reviews.write_text(reviews.read_text() + "fine thing 1 1,bad\n,good\n")
    code, out, _ = call(capsys, "data", reviews)
    assert code == 0
    for part in ("202 rows", "2 labels", "different labels", "1 text of 'review' is empty", "What the model will see"):
        assert part in out
    code, out, _ = call(capsys, "data", reviews, "--json")
    found = json.loads(out)
    assert found["num_rows"] == 202
    assert found["num_conflicts"] == 1
    assert not os.path.exists("runs")


def test_data_looks_at_the_moments_of_a_forecast(tmp_path, capsys):
    path = tmp_path / "sales.csv"
    path.write_text("day,sales\n" + "".join(f"2022-01-{day:02},{day % 7}\n" for day in (*range(1, 20), *range(22, 30))))
    code, out, _ = call(capsys, "data", str(path))
    assert code == 0
    assert "2 days missing in 'day', the first between 2022-01-19 and 2022-01-22" in out
    assert "moments that are out of order, come twice or are missing." in out
    rows = json.loads(call(capsys, "data", str(path), "--json")[1])["rows"]
    assert [sentence.split(",")[0] for sentence in rows] == ["2 days missing in 'day'"]


def test_a_stream_is_learned_row_by_row_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "fine day" if k % 2 else "awful day", "label": "good" if k % 2 else "bad"} for k in range(64)]
    stream = "".join(json.dumps(row) + "\n" for row in rows)
    command = ["train", "-", "--online", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "thalweg", *command], input=stream, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stream.encode())))
    code, out, err = call(capsys, *command)  # once more in this process, which saves the start of another
    assert code == 0, err
    for total, printed in ((64, done.stdout), (128, out)):
        summary = json.loads(printed)
        assert summary["steps"] == total
        assert summary["metrics"]["accuracy"] > 0.9
    _, out, _ = call(capsys, "predict", "runs/stream", "what a fine day")
    assert out.startswith("good")


@pytest.mark.slow
def test_a_stream_that_never_ends_is_saved_and_its_score_told_when_it_is_stopped(tmp_path):
    command = [sys.executable, "-m", "thalweg", "train", "-", "--online", "--json", "--out", str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for total, number, code in ((40, signal.SIGINT, 130), (80, signal.SIGTERM, 143)):
        process = subprocess.Popen(command, text=True, **pipes)
        assert process.stdin
        assert process.stderr
        rows = [json.dumps({"text": f"day {k % 3}", "label": "ab"[k % 2]}) for k in range(40)]
        process.stdin.write("\n".join([*rows[:-1], "{broken", rows[-1]]) + "\n")
        process.stdin.flush()
        seen = 0
        while seen < 3:  # it waits for a row that does not come
            time.sleep(0.1)
            seen = seen + 1 if _has_read(process) else 0
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        summary = json.loads(out)
        assert (summary["steps"], summary["status"]) == (total, "INTERRUPTED")
        assert "1 row cannot be read, left out (line 40" in " ".join(err.split())
        assert "Saved in" in err


def _has_read(process):
    """Whether the process sleeps in a read, all its input gone (Linux: nothing is left in the pipe)."""
    left = struct.unpack("i", fcntl.ioctl(process.stdin.fileno(), termios.FIONREAD, b"0000"))[0]
    return left == 0 and Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1][0] == "S"


WRONG = {
    "missing file": (["train", "nothing.csv"], "nothing.csv"),
    "no such column": (["train", "reviews.csv", "--label-column", "rating"], "'rating'"),
    "unknown option": (["train", "reviews.csv", "--learning-rate", "1"], "--learning-rate"),
    "unknown command": (["trian"], "trian"),
    "unknown model": (["train", "reviews.csv", "--model", "resnet"], "expected one of linear, bag, mlp"),
    "unknown optimizer": (["train", "reviews.csv", "--optimizer", "adamm"], "adamm"),
    "missing package": (["train", "reviews.csv", "--optimizer", "no_such_package.Best"], "pip install no-such-package"),
    "option it does not take": (["train", "reviews.csv", "--optimizer-options.beta", "1"], "beta"),
    "schedule option it does not take": (["train", "reviews.csv", "--schedule-options.cycles", "1"], "cycles"),
    "text for a number": (["train", "reviews.csv", "--lr", "fast"], "fast"),
    "time without sense": (["train", "reviews.csv", "--time", "soon"], "expected a duration such as 60s"),
    "device that is not there": (["train", "reviews.csv", "--device", "cuda:7"], "cuda:7"),
    "predict without a run": (["predict", "runs/none", "x"], "no run folder runs/none"),
    "evaluate a folder that is no run": (["evaluate", ".", "reviews.csv"], "is not a run folder"),
    "resume what is not there": (["train", "--resume", "runs/none"], "no run folder"),
    "both arguments and a file": (["predict", "runs/none", "x", "--file", "y"], "not both"),
    "stream of another task": (["train", "-", "--online", "--task", "tag"], "--online learns the tasks"),
    "an option of another model": (["train", "reviews.csv", "--sparsity", "0.5"], "for --model mlp"),
    "tfixup on a bag": (["train", "reviews.csv", "--init", "tfixup"], "tfixup"),
    "one class": (["train", "one.csv"], "only one label ('good')"),
    "empty file": (["train", "empty.csv"], "empty.csv"),
    "unseen label": (["train", "reviews.csv", "--valid", "unseen.csv"], "unseen.csv, line 3: label 'splendid'"),
    "numbers that are none": (["train", "numbers.csv", "--task", "forecast"], "numbers.csv"),
    "negative seed": (["train", "reviews.csv", "--seed", "-1"], "--seed must lie in [0, 2**63)"),
    "unwritable folder": (["train", "reviews.csv", "--out", "/proc/nope"], "cannot be written under /proc/nope"),
    "dash without online": (["train", "-"], "-"),
    "empty name": (["train", ""], "The name of a file is empty"),
    "empty name among others": (["train", "reviews.csv", ""], "The name of a file is empty"),
    "a name too long": (["train", "a" * 300], "File name too long; check the name and the folder."),
    "a run's name too long": (["predict", "a" * 300, "x"], "File name too long; check the name and the folder."),
    "empty folder": (["train", "reviews.csv", "--out", ""], "--out: expected the name of a folder, in UTF-8; got ''."),
    "folder of bytes": (["train", "reviews.csv", "--out", "a\udcff"], "of a folder, in UTF-8; got 'a\\udcff'"),
    "file of bytes": (["train", "a\udcff.csv"], "source must be UTF-8, as a recipe is; got 'a\\udcff.csv'"),
    "name outside the folder": (["data", "../../etc/nothing"], "nothing"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_the_users_mistakes_end_with_a_sentence_and_code_2(reviews, tmp_path, capsys, case):
    arguments, message = WRONG[case]
    (tmp_path / "one.csv").write_text("review,stars\nfine,good\nnice,good\ncalm,good\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "unseen.csv").write_text("review,stars\nfine,good\nnice,splendid\n")
    (tmp_path / "numbers.csv").write_text(
        "year,level\n" + "\n".join(f"{k},{'high' if k == 9 else k}" for k in range(40))
    )
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert err.splitlines()[-1].startswith("error:"), "the error is one line, and the last one"
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "runs").exists(), "nothing may be left half-written"


def test_odd_options_of_a_finished_run(reviews, capsys, tmp_path):
    code, _, err = call(capsys, "train", reviews, "--tokenizer", "bpe", "--vocabulary-size", 400, "--fast")
    assert code == 0, err
    code, _, err = call(capsys, "predict", "runs/reviews", "fine", "--top", 0)
    assert (code, "--top must be a whole number from 1 to 1,000" in err) == (2, True)
    (tmp_path / "runs" / "reviews" / "recipe.toml").write_text("")
    code, _, err = call(capsys, "predict", "runs/reviews", "fine")
    assert (code, "recipe.toml has changed since the run was made" in " ".join(err.split())) == (2, True)
    code, _, err = call(capsys, "train", "runs/reviews/recipe.toml", "--resume", "runs/reviews")
    assert code == 2
    assert "recipe.toml has changed since" in err


def test_a_run_name_stays_in_its_folder(reviews, capsys, tmp_path):
    code, _, _ = train(capsys, reviews, "--name", "../../escape", "--quiet")
    assert code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["escape"]
    assert not (tmp_path.parent / "escape").exists()


def test_overwrite_refuses_what_is_no_run(reviews, capsys, tmp_path):
    (tmp_path / "runs" / "reviews").mkdir(parents=True)
    (tmp_path / "runs" / "reviews" / "thesis.txt").write_text("years of work")
    code, _, err = train(capsys, reviews, "--overwrite")
    assert code == 2
    assert "is not a run folder" in err
    assert (tmp_path / "runs" / "reviews" / "thesis.txt").exists()


def test_help_is_quick_and_imports_no_torch():
    script = (
        "import sys\nfrom thalweg.cli.main import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(int('torch' in sys.modules or 'numpy' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("train", "predict", "evaluate", "data"):
        assert command in done.stdout


def test_options_become_a_recipe_and_values_are_read_as_toml():
    assert dict(to_options(["x.csv"])) == {"source": "x.csv"}
    assert plain({"momentum": "0.9", "nesterov": "true", "betas": "[0.9, 0.95]", "mode": "max"}) == {
        "momentum": 0.9, "nesterov": True, "betas": [0.9, 0.95], "mode": "max",
    }  # fmt: skip


FLAGS = tuple(name for name, option in OPTIONS.items() if option.kind is bool)
VALUES = {"batch_size": "full", "time": "2m", **dict.fromkeys(FLAGS)}
READ = {"batch_size": 0, "time": 120.0, **dict.fromkeys(FLAGS, True)}


def test_every_option_of_the_recipe_is_one_of_the_command_line(monkeypatch):
    """Each reaches the recipe under its own name, in its own kind, and no other is set.

    A command line takes a tenth of a second, so that each has half of them: any two differ in one of these halves.
    """
    seen = []
    monkeypatch.setattr(
        "thalweg.cli.training.train_and_show", lambda request, *rest, **more: seen.append(request.options)
    )
    names = sorted(OPTIONS.keys() - {"source"})
    for bit in range(len(names).bit_length()):
        chosen, arguments = {name for place, name in enumerate(names, 1) if place >> bit & 1}, []
        for name in chosen:
            flag, value = f"--{name.replace('_', '-')}", "3" if VALUES.get(name, "") == "" else VALUES[name]
            is_table = name.endswith("_options")
            arguments += [f"{flag}.key", "3"] if is_table else [flag] if value is None else [flag, value]
        with pytest.raises(SystemExit):
            run(["train", "x.csv", *arguments])
        given = dict(seen.pop())
        assert given.pop("source") == "x.csv"
        assert given.keys() == chosen
        for name in chosen:
            assert given[name] == ({"key": 3} if name.endswith("_options") else READ.get(name, given[name])), name
            assert given[name] in (3, "3", ("3",), {"key": 3}, READ.get(name)), name


def test_optimizer_options_reach_the_recipe(reviews, capsys, tmp_path):
    code, _, err = train(
        capsys,
        reviews,
        "--optimizer",
        "sgd",
        "--optimizer-options.momentum",
        "0.9",
        "--time",
        "1m",
        "--batch-size",
        "full",
    )
    assert code == 0, err
    text = (tmp_path / "runs" / "reviews" / "recipe.toml").read_text()
    assert 'optimizer_options = {"momentum" = 0.9}' in text
    assert "time = 60.0" in text
    assert "batch_size = 0" in text


def test_rows_that_were_left_out_are_told_on_the_terminal_and_in_the_report(reviews, capsys, tmp_path):
    reviews.write_text(reviews.read_text() + "one,two,three,four\n")
    code, _, err = train(capsys, reviews)
    assert code == 0
    assert "1 row cannot be read, left out (line 202: expected 2 columns, got 4)" in " ".join(err.split())
    assert "line 202: expected 2 columns, got 4" in (tmp_path / "runs" / "reviews" / "report.html").read_text()


def test_an_option_without_effect_is_told(reviews, capsys):
    code, _, err = call(capsys, "train", reviews, "--fast", "--lags", 5, "--skip", "highway")
    assert code == 0
    assert "--lags has no effect on --task classify." in err
    assert "--skip has no effect on --model bag." in err


def test_too_little_memory_is_told_in_a_sentence(reviews, capsys, tmp_path, monkeypatch):
    def build(*arguments, **options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 54 bytes.")

    monkeypatch.setattr("thalweg.training.folder.build.build_networks", build)
    code, out, err = train(capsys, reviews)
    assert (code, out) == (1, "")
    assert "error: There is not enough memory for 54 bytes more. Take a smaller --batch-size" in " ".join(err.split())
    assert not (tmp_path / "runs").exists()


def test_many_metrics_of_parts_are_in_the_reports_tables_only(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [",".join(str((k * j) % 13) for j in range(1, 13)) for k in range(60)]
    (tmp_path / "many.csv").write_text(",".join(f"c{j}" for j in range(1, 13)) + "\n" + "\n".join(rows) + "\n")
    code, out, _ = call(capsys, "train", "many.csv", "--fast", "--task", "forecast")
    assert code == 0
    assert re.search(r"\.\.\. \d\d more", out)
    page = (tmp_path / "runs" / "many" / "report.html").read_text()
    shown = page[page.index("<body") : page.index("<h2>Notes")]
    assert "naive_nmse" in shown
    assert "nmse c12" not in shown
    assert '"title": "nmse c12"' not in page
    assert "c12" in page[page.index("Errors in and out of sample") :]


NAMES = {1: "[red]x[/red]", 2: "shop_2 <b>"}


def test_names_of_series_are_printed_as_they_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"2024-01-{day:02},{name},{day % 7 + day * k}" for day in range(1, 31) for k, name in NAMES.items()]
    Path("a.csv").write_text("day,shop,sales\n" + "\n".join(rows) + "\n")
    code, out, _ = call(capsys, "train", "a.csv", "--lags", 1)
    assert code == 0
    for name in NAMES.values():
        assert f"skill {name} " in out
    code, _, err = call(capsys, "predict", "runs/a", "--file", "a.csv", "--length", 0)
    assert (code, err) == (2, "error: --length must be at least 1; got 0.\n")
