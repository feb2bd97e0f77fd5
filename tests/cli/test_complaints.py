"""What is wrong with a command line is said in a sentence: what was expected, what was got, what to do."""

import pytest

from thalweg.cli.main import app, run

WRONG = {
    "train a.csv --lr abc": "--lr: expected a number; got 'abc'.",
    "train a.csv --lr 0,01": "--lr: expected a number; got '0,01'; write 0.01.",
    "train a.csv --valid-share 10%": "--valid-share: expected a number; got '10%'; write 0.1.",
    "train a.csv --epochs -1": "--epochs must be 0 (off), or lie between 1e-9 and 1,000,000,000; got -1.0.",
    "train a.csv --seed 1.5": "--seed: expected a whole number; got '1.5'.",
    "train a.csv --steps 1e3": "--steps: expected a whole number; got '1e3'; write 1000.",
    "train a.csv --batch-size many": "--batch-size: expected a number of examples or \"full\"; got 'many'.",
    "train a.csv --time soon": "--time: expected a duration such as 60s, 5m or 1h; got 'soon'.",
    "train a.csv --hidden 64 32": "--hidden takes one value; got '64' and also '32'.",
    "train a.csv --tie maybe": "--tie takes no value; got 'maybe'. Give --tie alone, or leave it out.",
    "train a.csv --tie=maybe": "--tie takes no value; got 'maybe'. Give --tie alone, or leave it out.",
    "train a.csv --fast yes": "--fast takes no value; got 'yes'.",
    "train a.csv --lr": "--lr needs a value: peak learning rate.",
    "train a.csv --resume": "--resume needs a value.",
    "train a.csv --lr 1 --lr 2": "--lr is given twice; give it once.",
    "train a.csv --epohcs 3": "thalweg train has no option --epohcs; did you mean --epochs?",
    "train a.csv --betas 0.9": "an argument of the optimizer is given as --optimizer-options.betas VALUE.",
    "train --resume runs/a --epohcs 3": "thalweg train has no option --epohcs; did you mean --epochs?",
    "train --tolerance 1e-9": "thalweg train has no option --tolerance; thalweg train --help lists them",
    "train a.csv --top 3": "thalweg train has no option --top; it is one of thalweg predict.",
    "train a.csv --no-fast": "thalweg train has no option --no-fast; leave out --fast.",
    "train a.csv -lr 3": "thalweg train has no option -lr; options have two dashes: --lr.",
    "train a.csv --optimizer-options x": "--optimizer-options takes a name and a value, such as",
    "train a.csv --normalize loud": "Expected steps of text normalization among",
    "train a.csv --model gruu": "Task 'classify' has no model 'gruu'; expected one of",
    "train a.csv --optimizer adamww": "There is no optimizer 'adamww'",
    "train a.csv --kind xlsx": "There is no kind 'xlsx'; expected one of csv, tsv, jsonl",
    "data a.csv --kind xlsx": "There is no kind 'xlsx'; expected one of csv, tsv, jsonl",
    "data a.csv --header maybe": "There is no header 'maybe'; expected one of yes, no",
    "train a b c": "a: there is no such file",
    "trian a.csv": "There is no command 'trian'; did you mean train?",
    "frobnicate": "There is no command 'frobnicate'; expected one of train, compare, predict",
    "a.csv": "There is no command 'a.csv', which is a file; did you mean thalweg train a.csv?",
    "--lr 3": "Options come after the command; got --lr first. Write, for example, thalweg train --lr 3.",
    "predict": "thalweg predict needs FOLDER; thalweg predict --help shows the arguments.",
    "predict runs/a --lr 3": "thalweg predict has no option --lr; it is one of thalweg train and thalweg compare.",
    "predict runs/a --threshold 50%": "--threshold: expected a number; got '50%'; write 0.5.",
    "predict runs/a --temperature 0,5": "--temperature: expected a number; got '0,5'; write 0.5.",
    "evaluate runs/a b.csv --threshold 0,5": "--threshold: expected a number; got '0,5'; write 0.5.",
    "predict runs/a --tpo 3": "thalweg predict has no option --tpo; did you mean --top? A text that begins so comes",
    "predict runs/a --top 1.5": "--top: expected a whole number; got '1.5'.",
    "predict runs/a -json x": "thalweg predict has no option -json; options have two dashes: --json.",
    "evaluate runs/a": "thalweg evaluate needs FILE; thalweg evaluate --help shows the arguments.",
    "certify runs/a --seconds long": "--seconds: expected a duration such as 60s, 5m or 1h; got 'long'.",
    "certify runs/a runs/b": "There is no place for 'runs/b': thalweg certify takes fewer arguments.",
    "compare a.csv --trials few": "--trials: expected a whole number; got 'few'.",
    "diagnose runs/a --landscape=x": "--landscape takes no value; got 'x'.",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_told_in_a_sentence(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"thing {k} fine,{'ab'[k % 2]}\n" for k in range(40)))
    with pytest.raises(SystemExit) as ended:
        run(line.split(" "))
    said = " ".join(capsys.readouterr().err.split("error:")[-1].split())
    assert ended.value.code == 2
    assert WRONG[line] in said
    assert said.endswith((".", "?"))
    for word in ("Unused", "unable to convert", "requires an argument", "Parameter", "Unknown", "Traceback"):
        assert word not in said
    assert not (tmp_path / "runs").exists()


def test_every_command_shows_its_help(capsys):
    for command in (name for name in app if not name.startswith("-")):
        for arguments in ([command, "--help"], [command, "runs/a", "--help"]):
            with pytest.raises(SystemExit, match="0"):
                run(arguments)
            assert f"Usage: thalweg {command}" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["predict runs/a -- --lr", "predict runs/a -5", "predict runs/a -- --top"])
def test_a_text_may_begin_with_dashes(capsys, line):
    with pytest.raises(SystemExit, match="2"):
        run(line.split(" "))
    assert "There is no run folder runs/a" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--normalize", "none"), ("--normalize", "nfc,lower"), ("--normalize", "nfc", "--normalize", "lower"),
        ("--optimizer", "adam", "--optimizer-options.betas", "(0.9, 0.99)"),
    ],
)  # fmt: skip
def test_values_may_be_written_as_people_write_them(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("thalweg.training.session.finish.render_report", lambda report: "no pictures")
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"thing {k} fine,{'ab'[k % 2]}\n" for k in range(40)))
    with pytest.raises(SystemExit, match="0"):
        run(["train", "a.csv", "--fast", "--quiet", *arguments])
    recipe = (tmp_path / "runs/a/recipe.toml").read_text()
    expected = {"none": "normalize = []", "(0.9, 0.99)": '{"betas" = [0.9, 0.99]}'}.get(arguments[-1])
    assert (expected or 'normalize = ["nfc", "lower"]') in recipe


@pytest.mark.parametrize("command", ["train", "compare", "predict", "evaluate", "certify", "diagnose", "check", "data"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(capsys, command, flag):
    with pytest.raises(SystemExit) as ended:
        run([command, flag])
    assert not ended.value.code
    assert f"Usage: thalweg {command}" in capsys.readouterr().out
