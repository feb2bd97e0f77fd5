"""`thalweg predict`: an answer for each input, in order, whatever is wrong with some of them."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys

import pytest

from thalweg import InputError, load, train
from thalweg.cli.main import run as command_line
from thalweg.data.files.sources import open_source
from thalweg.training.folder.columns import find_columns

ROWS = [(f"{'fine' if k % 2 else 'awful'} thing {k % 37}", "good" if k % 2 else "bad") for k in range(120)]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


DATA = {
    "classify": ("reviews.csv", "text,label\n" + "".join(f"{t},{name}\n" for t, name in ROWS)),
    "several": (
        "topics.csv",
        "text,labels\n" + "".join(f"{t} {'red' if k % 3 else 'blue'},{name}{';odd' if k % 3 else ''}\n"
                                  for k, (t, name) in enumerate(ROWS)),
    ),
    "tag": ("words.conll", "".join(f"Anna{k % 5} B-PER\nsees O\nRome{k % 3} B-LOC\n\n" for k in range(60))),
    "score": (
        "pairs.csv",
        "sentence1,sentence2,score\n" + "".join(f"{t},{ROWS[k - 1][0]},{k % 7 / 2}\n" for k, (t, _) in enumerate(ROWS)),
    ),
    "forecast": ("level.csv", "a,b\n" + "".join(f"{k * 7 % 11}.5,{k % 5}\n" for k in range(80))),
    "translate": ("pairs.tsv", "source\ttarget\n" + "".join(f"one {k}\teins {k}\n" for k in range(80))),
    "language": ("book.txt", "the river runs to the sea\n" * 80),
}  # fmt: skip
OPTIONS = {"language": {"max_length": 8, "tie": False}, "translate": {"model": "lstm", "tie": False}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One small run of each kind."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for kind, (name, content) in DATA.items():
        (folder / name).write_text(content)
        task = "classify" if kind == "several" else kind
        options = {"fast": kind != "classify", "task": task, **OPTIONS.get(kind, {})}
        found[kind] = train(folder / name, out=folder / "runs", name=kind, width=4, **options).folder
    return found


@pytest.fixture
def predict(runs, tmp_path, monkeypatch, capfd):
    """Call `thalweg predict` for a kind of run, with a file's name and content or the bytes of standard input."""
    monkeypatch.chdir(tmp_path)

    def call(kind, *arguments, file=None, stdin=None, json_lines=True):
        more = ["--json"] if json_lines else []
        if file is not None:
            name, content = file
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
            more += ["--file", name]
        if stdin is not None:
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            command_line(["predict", str(runs[kind]), *map(str, arguments), *more])
        out, err = capfd.readouterr()
        answers = [json.loads(line) for line in out.splitlines()] if json_lines else out
        return ended.value.code, answers, " ".join(err.split())

    return call


BAD = {
    "a comma too many": ("n.csv", "id,text\n1,fine\n2,a,b\n3,awful\n", [2, -3, 4]),
    "null text": ("n.jsonl", jsonl([{"text": "a"}, {"text": None}, {"id": 3}, {"text": ""}]), [1, -2, -3, 4]),
    "broken json": ("n.jsonl", '{"text": "a"}\n{"text"\n{"text": "b"}\n', [1, -2, 3]),
    "a nul byte": ("n.csv", "text\nfine\nb\0\nawful\n", [2, -3, 4]),
    "an object": ("n.jsonl", jsonl([{"text": {"a": 1}}, {"text": 5}]), [-1, 2]),
    "lines of a text": ("n.txt", "fine\n\nawful\n", [1, 2, 3]),
    "far apart": ("n.csv", "id,text\n" + "".join(f"{k},x{',y,z' * (k == 300)}\n" for k in range(700)),
                  [-302 if k == 300 else k + 2 for k in range(700)]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_each_row_of_a_file_has_its_answer_in_order(predict, case):
    name, content, lines = BAD[case]
    code, answers, err = predict("classify", file=(name, content))
    assert code == 0
    assert [answer["line"] for answer in answers] == [abs(line) for line in lines]
    assert [answer["label"] is None for answer in answers] == [line < 0 for line in lines]
    assert [bool(answer.get("error")) for answer in answers] == [line < 0 for line in lines]
    bad = [-line for line in lines if line < 0]
    assert ("could not be answered" in err) == bool(bad)
    assert not bad or f"{len(bad)} of {len(lines)} rows could not be answered (line {bad[0]}: " in err


def test_where_no_row_can_be_answered_that_is_an_error(predict):
    code, answers, err = predict("classify", file=("n.jsonl", jsonl([{"text": None}, {"text": {}}])))
    assert (code, [answer["line"] for answer in answers]) == (2, [1, 2])
    assert "error: n.jsonl: none of the 2 rows could be answered (line 1: expected a text, got null; line 2" in err
    code, answers, err = predict("forecast", "1,2,x")
    assert (code, answers[0]["forecast"]) == (2, None)
    assert err.startswith("error: Expected numbers separated by spaces or commas, got 'x' among them.")


def test_rows_before_a_file_breaks_off_are_answered(predict):
    content = b"text\n" + (b"fine thing " * 500 + b"\n") * 1000 + b"\xff\n"
    code, answers, err = predict("classify", file=("n.csv", content))
    assert code == 2
    assert "line 1002" in err
    assert 300 < len(answers) < 1001, "all of the blocks that could be read"


def test_bad_rows_can_be_left_out(predict):
    code, answers, err = predict("classify", "--skip-bad-rows", file=("n.csv", "id,text\n1,fine\n2,a,b\n3,awful\n"))
    assert (code, [answer["line"] for answer in answers]) == (0, [2, 4])
    assert "1 of 3 rows could not be answered (line 3: expected 2 columns, got 3); they are left out." in err


LINES = {
    "classify": (b"lovely\n\n \nawful\n", [1, 2, 3, 4]),
    "several": (b"\nfine\n", [1, 2]),
    "tag": (b"Anna1 sees Rome1\n\n", [1, 2]),
    "score": (b"a\tb\n\nonly one\nc\td\n", [1, -2, -3, 4]),
    "translate": (b"one 1\n\none 2\n", [1, 2, 3]),
    "language": (b"\nthe river\n", [1, 2]),
    "not utf-8": (b"fine\n\xff\nawful\n", [1, -2, 3]),
}


@pytest.mark.parametrize("case", LINES)
def test_each_line_of_standard_input_has_its_answer(predict, case):
    content, lines = LINES[case]
    code, answers, _ = predict("classify" if case == "not utf-8" else case, stdin=content)
    assert code == 0
    assert [-answer["line"] if "error" in answer else answer["line"] for answer in answers] == lines


def test_an_argument_that_cannot_be_answered_loses_no_other(predict):
    window = ";".join(["1,2"] * 30)
    code, answers, err = predict("forecast", window, "", "1;x", window)
    assert code == 0
    assert [answer["forecast"] is None for answer in answers] == [False, True, True, False]
    assert "2 of 4 inputs could not be answered" in err
    assert predict("classify", "", "fine")[1][0]["text"] == ""


def test_columns_are_carried_along(predict):
    file = ("n.csv", 'id,text,label,line\n7,"fine, I think",x,y\n8,awful,z\n')
    code, answers, _ = predict("classify", "--keep", "id,label", "--keep", "LINE", file=file)
    assert code == 0
    assert [(a["line"], a["id"], a["kept_label"], a["kept_line"]) for a in answers] == [
        (2, "7", "x", "y"), (3, None, None, None),
    ]  # fmt: skip
    code, answers, err = predict("classify", "--keep", "name", file=file)
    assert (code, answers) == (2, [])
    assert "there is no column 'name'" in err
    code, _, err = predict("classify", "fine", "--keep", "id")
    assert (code, "--keep is for the columns of a file" in err) == (2, True)


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_a_row_for_each_answer_and_quotes_what_needs_it(predict):
    file = (
        "n.jsonl",
        jsonl([{"id": "=1+1", "text": 'a "b", c\nd'}, {"id": "x", "text": None}, {"id": "y", "text": ""}]),
    )
    code, out, _ = predict("classify", "--csv", "--keep", "id", file=file, json_lines=False)
    rows = table(out)
    assert (code, out.splitlines()[0]) == (0, "line,id,text,label,probability,error")
    assert [row["line"] for row in rows] == ["1", "2", "3"]
    assert [row["id"] for row in rows] == ["=1+1", "x", "y"], "cells are as they were"
    assert rows[0]["text"] == 'a "b", c\nd'
    assert (rows[1]["label"], rows[1]["error"]) == ("", "expected a text, got null")
    assert 0.0 < float(rows[0]["probability"]) <= 1.0
    out = predict("classify", "fine", "--csv", "--top", 2, json_lines=False)[1]
    assert out.splitlines()[0] == "text,label,probability,label_1,probability_1,label_2,probability_2,error"
    assert "not both" in predict("classify", "fine", "--csv")[2]


TABLES = {
    "several": ("fine thing", "text,labels,error"),
    "tag": ("Anna1 sees Rome1", "tokens,tags,spans,error"),
    "score": ("a\tb", "text,other,score,error"),
    "translate": ("one 1", "source,text,score,log_probability,note,error"),
    "language": ("the", "prompt,text,score,log_probability,note,error"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_every_task_has_a_table(predict, kind):
    text, header = TABLES[kind]
    code, out, _ = predict(kind, text, "--csv", json_lines=False)
    assert (code, out.splitlines()[0], len(table(out))) == (0, header, 1)
    if kind == "tag":
        (row,) = table(out)
        assert row["tokens"] == text
        assert len(row["tags"].split()) == 3
        assert all(span["type"] in ("PER", "LOC") for span in json.loads(row["spans"]))


def test_a_forecast_has_a_row_for_each_step(predict):
    code, out, _ = predict("forecast", ";".join(["1,2"] * 30), "--csv", "--length", 3, json_lines=False)
    rows = table(out)
    assert (code, [row["step"] for row in rows]) == (0, ["1", "2", "3"])
    assert all(float(row["forecast a"]) and float(row["forecast b"]) for row in rows)


COLUMNS = {
    "named": (["--text-column", "body"], "n.csv", "id,body\n1,fine\n", "fine"),
    "another case": ([], "n.csv", "ID,Text\n1,fine\n", "fine"),
    "the only column": ([], "n.csv", "Kommentar\nfine\n", "fine"),
    "plain text": ([], "n.txt", "fine\n", "fine"),
    "as in training": ([], "n.csv", "label,text\nx,fine\n", "fine"),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_a_file_may_call_its_columns_otherwise(predict, case):
    arguments, name, content, text = COLUMNS[case]
    code, answers, err = predict("classify", *arguments, file=(name, content))
    assert (code, [answer["text"] for answer in answers]) == (0, [text]), err


@pytest.mark.parametrize("more", [{}, {"id": 7}, {"rude": 1}])
def test_a_file_to_be_answered_needs_no_columns_of_labels(tmp_path, more):
    trained = {"text": "text", "label": "toxic,rude,fun", "label_columns": ["toxic", "rude", "fun"], "one_hot": True}
    (tmp_path / "new.jsonl").write_text(jsonl([{"text": "a fine thing", **more}]))
    source = open_source(tmp_path / "new.jsonl")
    assert find_columns("classify", trained, source, {}, ("text",)).columns == {"text": "text"}
    with pytest.raises(InputError, match="has no column 'toxic', which the run was trained on"):
        find_columns("classify", trained, source, {}, ("text", "label"))


def test_a_missing_column_is_told_with_the_option_that_names_it(predict):
    code, answers, err = predict("classify", file=("n.csv", "id,body\n1,fine\n"))
    assert (code, answers) == (2, [])
    assert "n.csv has no column 'text', which the run was trained on; it has 'id', 'body'." in err
    assert "Name the column with --text-column." in err
    assert "--other-column" in predict("score", file=("n.csv", "sentence1,body\n1,fine\n"))[2]
    assert "--columns" in predict("forecast", file=("n.csv", "a,c\n" + "1,2\n" * 40))[2]
    code, _, err = predict("classify", "--other-column", "id", file=("n.csv", "id,text\n1,fine\n"))
    assert (code, "--other-column: this run of task classify has no such column" in err) == (2, True)
    code, answers, _ = predict("forecast", "--columns", "a,c", file=("n.csv", "a,c\n" + "1,2\n" * 40))
    assert (code, set(answers[0]["forecast"][0])) == (0, {"a", "b"})


def test_words_of_a_table_are_split_as_in_training_and_texts_as_texts(predict):
    _, (one,), _ = predict("tag", file=("n.jsonl", jsonl([{"tokens": "Anna1, sees"}])))
    assert one["tokens"] == ["Anna1,", "sees"]
    _, (one,), _ = predict("tag", file=("n.txt", "Anna1, sees\n"))
    assert one["tokens"] == ["Anna1", ",", "sees"]
    _, answers, _ = predict("tag", file=("n.jsonl", jsonl([{"tokens": ["a", None]}, {"tokens": ["a", "b c"]}])))
    assert "expected a list of words, got one with null in it" in answers[0]["error"]
    assert answers[1]["tokens"] == ["a", "b c"]


WRITING = {
    "--samples": 2, "--temperature": 0.5, "--top-p": 0.5, "--top-k": 2, "--seed": 1, "--no-repeat": 2,
    "--repetition-penalty": 1.5,
}  # fmt: skip
FLAGS = {
    **WRITING, "--top": 1, "--threshold": 0.4, "--length": 2, "--beam": 2, "--length-penalty": 0.5, "--prefix": "eins",
    "--stop": "x", "--tokens": None, "--score": None,
}  # fmt: skip
READ = {
    "classify": {"--top", "--threshold"},
    "tag": {"--tokens"},
    "score": set(),
    "forecast": {"--length"},
    "translate": {*WRITING, "--top", "--beam", "--length-penalty", "--prefix", "--score"},
    "language": {*WRITING, "--length", "--stop", "--score"},
}


@pytest.mark.parametrize("kind", READ)
def test_an_option_that_the_task_does_not_read_is_refused(predict, kind):
    for flag, value in FLAGS.items():
        given = [flag] if value is None else [flag, value]
        code, _, err = predict(kind, "1,2;" * 40 + "1,2" if kind == "forecast" else "a\tb", *given)
        is_read = flag in READ[kind]
        assert (code, f"this run is of task {kind} and reads " in err, f"Leave {flag} out." in err) == (
            (0, False, False) if is_read else (2, True, True)
        )


@pytest.mark.parametrize(
    ("more", "between"), [([], "\n\n"), (["--samples", 2], "\n\n"), (["--stop", "\n"], "\n\n"), (["--flat"], "\n")]
)
def test_texts_with_line_ends_have_an_empty_line_between_them(predict, more, between):
    prompts = ["a\nb", "the river"] if more != ["--flat"] else ["the river", "to"]
    more = ["--length", 3, *(more if more != ["--flat"] else ["--stop", "\n"])]
    _, answers, _ = predict("language", *prompts, *more)
    texts = [one["prompt"] + each["text"] for one in answers for each in one.get("samples", [one])]
    assert between == "\n\n" or "\n" not in "".join(texts)
    code, out, _ = predict("language", *prompts, *more, json_lines=False)
    pairs = zip(texts, [*texts[1:], ""], strict=True)
    wanted = "".join(f"{text}\n" + ("\n" if after and "\n" in text + after else "") for text, after in pairs)
    assert (code, out) == (0, wanted)
    assert texts[0] + between in out
    _, out, _ = predict("language", prompts[0], *more[:2], json_lines=False)  # one alone has none behind it
    assert out.startswith(prompts[0])
    assert not out.removesuffix("\n").endswith("\n\n")


@pytest.mark.parametrize("kind", ["classify", "several", "tag", "score", "translate", "language"])
def test_one_input_has_one_line(predict, kind):
    inputs = ["fine\tfilm", "awful thing"] if kind == "score" else ["fine film", "one 3"]
    more = ["--length", 5, "--stop", "\n"] if kind == "language" else []
    code, out, _ = predict(kind, *(one for one in inputs if kind != "score" or "\t" in one), *more, json_lines=False)
    assert (code, len(out.splitlines())) == (0, 1 if kind == "score" else 2)
    if "--top" in READ.get(kind, ["--top"]):
        code, out, _ = predict(kind, "fine film", "--top", 2, json_lines=False)
        assert code == 0
        assert len(out.splitlines()) == {"several": 3, "classify": 2}.get(kind, len(out.splitlines())) <= 3


def test_given_texts_are_measured(predict):
    code, (one, two), _ = predict("language", "the river", "to the sea", "--score")
    assert code == 0
    assert one["log_probability"] == pytest.approx(sum(one["log_probabilities"]))
    assert one["score"] == pytest.approx(one["log_probability"] / len(one["tokens"]))
    assert two["perplexity"] > 1
    code, out, _ = predict("language", "the river", "--score", json_lines=False)
    assert code == 0
    assert out.startswith("log-probability -")
    code, (pair,), _ = predict("translate", "one 3\teins 3", "--score")
    assert (code, pair["source"], pair["target"]) == (0, "one 3", "eins 3")
    code, rows, _ = predict("translate", "--score", file=("n.tsv", "id\ttarget\tsource\n7\teins 3\tone 3\n8\t\tone\n"))
    assert rows[0]["log_probabilities"] == pytest.approx(pair["log_probabilities"], abs=1e-5)
    assert "got an empty one" in rows[1]["error"]
    code, (line,), _ = predict("translate", "--score", stdin=b"one 3\teins 3\n")
    assert line["log_probability"] == pytest.approx(pair["log_probability"], abs=1e-5)
    code, (lost,), err = predict("translate", "one 3", "--score")
    assert (code, lost["score"]) == (2, None)
    assert "with one tab between them; got 0 tabs" in err


@pytest.mark.parametrize(
    ("kind", "wishes", "message"),
    [
        ("language", ["--score", "--length", 3], "--length is for texts that are written, and --score measures given"),
        (
            "language",
            ["--samples", 2, "--temperature", 0],
            "--samples is for drawn texts, and --temperature 0 draws none",
        ),
        ("language", ["--min-length", 2], "--min-length 2 is for texts that end at --stop"),
        ("translate", ["--beam", 4, "--samples", 2], "--beam 4 searches for the best texts, and --samples draws some"),
        ("translate", ["--min-length", 300], "--min-length must be at most 63"),
        ("translate", ["--top-k", 0], "--top-k must be a whole number from 1 to"),
        ("translate", ["--no-repeat", -1], "--no-repeat must be a whole number from 0 to"),
        ("translate", ["--repetition-penalty", 0], "--repetition-penalty must be a number from 0.01 to 100; got 0"),
        ("translate", ["--stop", "x"], "--stop is for language; this run is of task translate"),
        ("language", ["--stop", ""], "--stop must be a text that is not empty"),
        ("score", ["--score"], "--score is for language and translate; this run is of task score"),
        ("language", ["--jsonn"], "thalweg predict has no option --jsonn; did you mean --json?"),
        ("language", ["--sampels", 3], "thalweg predict has no option --sampels; did you mean --samples?"),
    ],
)
def test_wishes_that_cannot_be_are_refused_in_a_sentence(predict, kind, wishes, message):
    code, _, err = predict(kind, "one", *wishes)
    assert code == 2
    assert message in err


def test_what_was_drawn_does_not_depend_on_the_other_inputs(predict):
    options = ["--length", 6, "--temperature", 1]
    _, answers, _ = predict("language", "", "", "the", *options)
    texts = [answer["text"] for answer in answers]
    assert texts[0] != texts[1]
    _, rows, _ = predict("language", *options, file=("n.jsonl", jsonl([{"text": ""}, {"text": None}, {"text": "the"}])))
    assert [rows[0]["text"], rows[1]["text"], rows[2]["text"]] == [texts[0], None, texts[2]]
    _, lines, _ = predict("language", *options, "--samples", 2, "--csv", stdin=b"the\n", json_lines=False)
    assert lines.splitlines()[0] == "line,prompt,text,score,log_probability,note,error"
    assert len(lines.splitlines()) == 3 or lines.count("1,the,") == 2


def test_a_text_that_begins_with_a_dash_comes_after_two(predict):
    code, out, _ = predict("language", "--length", 2, "--json", "--", "--odd", "-- x", json_lines=False)
    assert (code, [json.loads(line)["prompt"] for line in out.splitlines()]) == (0, ["--odd", "-- x"])


@pytest.fixture
def piped(monkeypatch):
    """Put bytes into a pipe, and return the name by which it can be read as a file."""
    ends = []

    def put(content):
        end, into = os.pipe()
        ends.append(end)
        os.write(into, content)
        os.close(into)
        name = f"/dev/fd/{end}"
        monkeypatch.setattr("thalweg.cli.complaints.STANDARD_INPUT", name)
        return name

    yield put
    for end in ends:
        os.close(end)


PIPED = {
    "csv": (b"id,text\n1,fine\n2,a,b\n3,awful\n", [2, -3, 4]),
    "jsonl": (jsonl([{"text": "fine"}, {"text": None}]).encode(), [1, -2]),
    "gzip": (gzip.compress(b"id,text\n1,fine\n2,awful\n"), [2, 3]),
}


@pytest.mark.parametrize("kind", PIPED)
def test_rows_from_a_pipe_are_read_as_those_of_a_file(predict, piped, kind):
    content, lines = PIPED[kind]
    piped(content)
    code, answers, _ = predict("classify", "--file", "-", *(["--kind", "csv"] if kind == "csv" else []))
    assert (code, [answer["line"] for answer in answers]) == (0, [abs(line) for line in lines])
    assert [answer["label"] is None for answer in answers] == [line < 0 for line in lines]


def test_a_pipe_is_evaluated_as_the_file_is(runs, piped, capfd):
    path = runs["classify"].parent.parent / "reviews.csv"
    found = []
    for name in (str(path), "-"):
        piped(path.read_bytes())
        with pytest.raises(SystemExit, match="0"):
            command_line(["evaluate", str(runs["classify"]), name, "--json"])
        found.append({**json.loads(capfd.readouterr().out), "notes": []})
    assert found[0] == found[1]


def test_people_see_where_an_answer_is_missing(predict):
    code, out, _ = predict("classify", "--top", 1, file=("n.csv", "id,text\n1,fine\n2,a,b\n"), json_lines=False)
    assert (code, out.splitlines()[1]) == (0, "(no answer: line 3: expected 2 columns, got 3)")


def test_people_see_which_texts_were_truncated(predict):
    text = "ab " * 200
    _, out, err = predict("translate", text, "a", text, "--beam", 1, json_lines=False)
    assert "2 of 3 inputs were truncated to 64 tokens (input 1, 3)." in err
    assert len(out.splitlines()) == 3
    rows = "source,target\na,b\n" + f"{text},b\n" * 5
    _, _, err = predict("translate", "--beam", 1, file=("n.csv", rows), json_lines=False)
    assert "n.csv: 5 of 6 inputs were truncated to 64 tokens (line 3, 4, 5, ...)." in err
    _, answers, err = predict("translate", text, "--beam", 1)
    assert answers[0]["note"] == "truncated to 64 tokens"
    assert "truncated" not in err


def test_answers_come_while_standard_input_is_open(runs):
    command = [sys.executable, "-m", "thalweg", "predict", str(runs["classify"]), "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"fine thing\n\n")
        assert json.loads(process.stdout.readline())["line"] == 1
        assert json.loads(process.stdout.readline())["line"] == 2
        process.stdin.close()
        assert process.wait(60) == 0


def test_python_says_where_an_input_cannot_be_answered_or_gives_the_other_answers(runs, tmp_path):
    run, path = load(runs["classify"]), tmp_path / "n.csv"
    path.write_text("id,body\n1,fine\n2,a,b\n3,awful\n")
    with pytest.raises(InputError, match=r"Input 2: expected a text, got null\."):
        run.predict(["a", None])
    answers = run.predict(["a", None, "b"], errors="null")
    assert [answer["label"] is None for answer in answers] == [False, True, False]
    assert answers[1]["error"] == "expected a text, got null"
    with pytest.raises(InputError, match=r"n\.csv, line 3: expected 2 columns, got 3; correct it, or use errors="):
        run.predict(path, text_column="body")
    answers = run.predict(str(path), text_column="body", errors="null")
    assert [answer["text"] for answer in answers] == ["fine", None, "awful"]
    with pytest.raises(InputError, match="inputs are given as a list"):
        run.predict("a fine day")
    with pytest.raises(InputError, match="there is no such file"):
        run.predict("nothing.csv")
    with pytest.raises(InputError, match=r'must be "raise" or "null"; got'):
        run.predict(["a"], errors="ignore")


@pytest.fixture
def evaluate(runs, tmp_path, monkeypatch, capfd):
    """Call `thalweg evaluate --json` for a kind of run and a file's name and content."""
    monkeypatch.chdir(tmp_path)

    def call(kind, file, *arguments, as_json=True):
        name, content = file
        (tmp_path / name).write_text(content)
        more = ["--json"] if as_json else []
        with pytest.raises(SystemExit) as ended:
            command_line(["evaluate", str(runs[kind]), name, *arguments, *more])
        out, err = capfd.readouterr()
        return ended.value.code, json.loads(out) if as_json and out else out, " ".join(err.split())

    return call


HELD_OUT = "id,body,stars\n" + "".join(f"{k},{t},{name}\n" for k, (t, name) in enumerate(ROWS[:40]))


def test_evaluate_counts_what_it_left_out_with_lines_and_reasons(evaluate):
    content = "text,label\nfine,good\nawful,bad\na,b,c\nfine,\nfine,splendid\n" + "fine,good\n" * 5
    code, found, err = evaluate("classify", ("n.csv", content), "--skip-bad-rows")
    assert code == 0, err
    assert (found["num_rows"], found["num_examples"], found["num_left_out"]) == (10, 7, 3)
    lines = {row["line"]: row["reason"] for row in found["left_out"]}
    assert lines[4] == "expected 2 columns, got 3"
    assert "'splendid'" in lines[6]
    assert lines[5] == "no label in column 'label'"
    assert len(lines) == found["num_left_out"]
    assert any("no label" in note for note in found["notes"])
    assert {row["label"]: row["support"] for row in found["labels"]} == {"bad": 1, "good": 6}
    assert sum(row["count"] for row in found["confusion"]) == 7
    assert set(found["averages"]) == {"micro", "macro", "weighted"}
    code, _, err = evaluate("classify", ("n.csv", content))
    assert (code, "--skip-bad-rows" in err) == (2, True)


def test_evaluate_reads_columns_of_other_names(evaluate):
    code, found, err = evaluate("classify", ("n.csv", HELD_OUT), "--text-column", "body", "--label-column", "stars")
    assert (code, found["num_examples"], found["num_left_out"]) == (0, 40, 0), err
    code, _, err = evaluate("classify", ("n.csv", HELD_OUT), "--text-column", "body")
    assert (code, "Name the column with --label-column." in err) == (2, True)
    names = ["--text-column", "body", "--label-column", "stars"]
    code, out, err = evaluate("classify", ("n.csv", HELD_OUT), *names, as_json=False)
    assert code == 0, err
    assert "label  precision  recall      f1  support" in out
    assert "texts that" in out, "rows that were trained on are told"


def test_evaluate_writes_a_page_about_a_file(evaluate, tmp_path):
    content = "text,label\n" + "".join(f"{t} <script>alert(1)</script>,{name}\n" for t, name in ROWS[:40]) + "a,b,c\n"
    code, _, err = evaluate("classify", ("n.csv", content), "--skip-bad-rows", "--report", "page.html")
    assert (code, "Report: page.html" in err) == (0, True)
    page = (tmp_path / "page.html").read_text()
    shown = page[page.index("<body") :]
    for part in ("classify on n.csv", "Figures of the labels", "What is taken for what", "Rows that were left out"):
        assert part in shown
    assert "<script>alert(1)" not in page
    assert "alidation texts" not in shown
    assert "41 rows were read, and 1 of them left out." in shown


OTHER = {
    "several": ("n.csv", DATA["several"][1], "labels"),
    "tag": ("n.conll", DATA["tag"][1], "spans"),
    "score": ("n.csv", DATA["score"][1], None),
    "forecast": ("n.csv", DATA["forecast"][1], None),
    "translate": ("n.tsv", DATA["translate"][1], None),
    "language": ("n.txt", DATA["language"][1], None),
}


@pytest.mark.parametrize("kind", OTHER)
def test_every_task_has_a_page_about_a_file(evaluate, tmp_path, kind):
    name, content, key = OTHER[kind]
    code, found, err = evaluate(kind, (name, content), "--report", "page.html")
    assert (code, found["num_left_out"], found["left_out"]) == (0, 0, []), err
    assert found["num_rows"] > 0
    assert key is None or all({"precision", "recall", "f1", "support"} <= set(row) for row in found[key])
    assert f"{kind} on {name}" in (tmp_path / "page.html").read_text()


def test_files_are_read_with_the_header_and_format_of_the_training_data(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rows = [f"{'good' if i % 2 else 'bad'} film {i},{'yes' if i % 2 else 'no'}\n" for i in range(60)]
    (tmp_path / "a.dat").write_text("".join(rows))
    (tmp_path / "b.dat").write_text("".join(row.replace("film", "book") for row in rows))
    names = ["--text-column", "column1", "--label-column", "column2", "--kind", "csv", "--header", "no"]
    for arguments, expected in [
        (["train", "a.dat", *names, "--fast", "--out", "r", "--name", "x"], ""),
        (["evaluate", "r/x", "b.dat", "--json"], '"num_rows": 60'),
        (["predict", "r/x", "--file", "b.dat", "--json"], '"line": 60'),
        (["certify", "r/x", "--test", "b.dat", "--seconds", "5", "--json"], "of 60 examples of b.dat"),
        (["certify", "r/x", "--test", "b.dat", "--header", "no", "--kind", "csv", "--seconds", "5", "--json"], ""),
    ]:
        with pytest.raises(SystemExit) as stop:
            command_line(arguments)
        out, err = capfd.readouterr()
        assert stop.value.code == 0, err
        assert expected in out, out
    with pytest.raises(SystemExit, match="2"):
        command_line(["certify", "r/x", "--header", "no"])
    assert "give one with --test" in capfd.readouterr().err


def test_empty_lines_of_one_column_keep_their_place_but_not_behind_the_last_row(runs, tmp_path, capfd):
    path = tmp_path / "one.csv"
    path.write_text("text\nfine\n\nbad\n\n\n")
    with pytest.raises(SystemExit, match="0"):
        command_line(["predict", str(runs["classify"]), "--file", str(path), "--json"])
    out, err = capfd.readouterr()
    answers = list(map(json.loads, out.splitlines()))
    assert [(answer["line"], answer["label"] is None) for answer in answers] == [(2, False), (3, True), (4, False)]
    assert answers[1]["error"] == "an empty line in a table of one column"
    assert "1 of 3 rows could not be answered" in err
