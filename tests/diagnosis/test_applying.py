"""A repair put into a run's recipe: what it changes, and what a stranger's file cannot do."""

import json

import pytest

from thalweg.diagnosis.applying import applied
from thalweg.errors import InputError
from thalweg.training.folder.run import Run
from thalweg.training.recipe.recipe import Options
from thalweg.training.session.api import train

ROWS = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(60)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("applying")
    path = folder / "reviews.csv"
    path.write_text("review,stars\n" + "\n".join(ROWS) + "\n")
    options = {"model": "mlp", "width": 4, "optimizer": "adamw", "lr": 0.5, "clip": 0.1, "steps": 2}
    return train(path, out=folder / "runs", **options)


def finding(options, sentence="Change it."):
    return {"name": "x", "repair": {"sentence": sentence, "options": options, "action": ""}}


def written(run, *findings):
    """Write a diagnosis into a run, and return its file."""
    path = run.folder / "diagnosis.json"
    path.write_text(json.dumps({"findings": findings}))
    return path


def test_repair_lies_on_top_of_the_recipe_and_what_is_given_on_top_of_both(run):
    path = written(run, finding({"lr": 0.01}), finding({"lr": 0.02, "clip": None}))
    options = applied(f"{path}#1", Options())
    assert (options["lr"], options["clip"], options["steps"]) == (0.01, 0.1, 2)
    assert options["source"] == run.recipe.data.source
    both = applied(f"{path}#1,#2", Options(width=8))
    assert (both["lr"], both["width"]) == (0.02, 8)
    assert "clip" not in both  # no longer given: the default applies again
    assert applied(f"{path}#2, 1", Options())["lr"] == 0.01
    assert applied(f"{run.folder}#1", Options(lr=3.0))["lr"] == 3.0


def test_a_diagnosis_that_is_not_as_it_was_written_is_named(run):
    path = run.folder / "diagnosis.json"
    run.ledger.write({path.name: json.dumps({"findings": [finding({"lr": 0.01})]}).encode()})
    assert applied(f"{path}#1", Options())["lr"] == 0.01
    path.write_text(path.read_text().replace("0.01", "0.11"))
    with pytest.raises(InputError, match=r"diagnosis\.json is damaged \(its checksum differs\)"):
        applied(f"{path}#1", Options())
    run.ledger.write({}, forgotten=[path.name])


def test_repair_may_take_a_file_of_word_vectors_out(run):
    assert (
        applied(f"{written(run, finding({'word_vectors': None, 'init': 'xavier'}))}#1", Options())["init"] == "xavier"
    )
    for value in ("/etc/passwd", ""):
        with pytest.raises(InputError, match="may not change --word-vectors"):
            applied(f"{written(run, finding({'word_vectors': value}))}#1", Options())


def test_epochs_take_the_place_of_steps(run):
    options = applied(f"{written(run, finding({'epochs': 4.0}))}#1", Options())
    assert options["epochs"] == 4.0
    assert "steps" not in options


def test_repaired_run_is_a_new_one(run):
    path = written(run, finding({"lr": 0.01, "optimizer": None}))
    before = (run.folder / "recipe.toml").read_bytes()
    repaired = train(**applied(f"{path}#1", Options(optimizer="sgd")), out=run.folder.parent)
    assert repaired.folder != run.folder
    assert (repaired.recipe.training.lr, repaired.recipe.training.optimizer) == (0.01, "sgd")
    assert (run.folder / "recipe.toml").read_bytes() == before
    assert Run(run.folder).recipe.training.lr == 0.5


REFUSED = {
    "no number": ("", [finding({"lr": 0.1})], "must name a diagnosis and the number"),
    "not a number": ("#two", [finding({"lr": 0.1})], "must name a diagnosis and the number"),
    "zero": ("#0", [finding({"lr": 0.1})], "no finding 0 in .*, which has 1"),
    "too large": ("#2", [finding({"lr": 0.1})], "no finding 2 in .*, which has 1"),
    "healthy": ("#1", [], "which has none"),
    "code": ("#1", [finding({}, "Call model.eval().")], r"nothing to apply. Its repair: Call model.eval\(\)."),
    "no repair": ("#1", [{"name": "x"}], "nothing to apply"),
    "strange repair": ("#1", [{"repair": [1]}], "nothing to apply"),
    "unknown option": ("#1", [finding({"learning_rate": 1})], "there is no option 'learning_rate'"),
    "type": ("#1", [finding({"lr": "fast"})], "#1: lr must be a number; got 'fast'"),
    "range": ("#1", [finding({"lr": -1.0})], "--lr must lie between 1e-30 and 1e30; got -1.0"),
    "name in no table": ("#1", [finding({"activation": "os.system"})], "There is no activation 'os.system'"),
    "another source": ("#1", [finding({"source": "/etc/passwd"})], "may not change --source"),
    "a folder of its own": ("#1", [finding({"name": "../../x"})], "may not change --name"),
    "a file": ("#1", [finding({"targets": "combined:/etc/passwd"})], "may not change --targets"),
    "code to import": ("#1", [finding({"optimizer": "os.path.Evil"})], "may not name code to import"),
    "code in options": ("#1", [finding({"optimizer_options": {"initial": "os:x"}})], "option 'initial'"),
    "text in options": ("#1", [finding({"optimizer_options": {"x": "os:x"}})], "option 'x'"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_applied_is_told(run, case):
    place, findings, message = case
    with pytest.raises(InputError, match=message):
        applied(f"{written(run, *findings)}{place}", Options())


DAMAGED = {
    "not JSON": ("{", "is damaged .it is not valid JSON: Expecting property name"),
    "a list": ("[]", "expected an object"),
    "no findings": ('{"findings": {"a": 1}}', "expected a list at findings"),
    "findings that are none": ('{"findings": [3]}', r"expected an object at findings\[0\]"),
}


@pytest.mark.parametrize("case", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_diagnosis_is_told(run, case):
    text, message = case
    path = run.folder / "diagnosis.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        applied(f"{path}#1", Options())


def test_missing_diagnosis_and_missing_run_are_told(run, tmp_path):
    (run.folder / "diagnosis.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"no diagnosis .*; `thalweg diagnose .*` writes it"):
        applied(f"{run.folder}#1", Options())
    (tmp_path / "diagnosis.json").write_text(json.dumps({"findings": [finding({"lr": 0.1})]}))
    with pytest.raises(InputError, match="is not a run folder"):
        applied(f"{tmp_path / 'diagnosis.json'}#1", Options())
