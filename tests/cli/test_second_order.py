"""Second-order methods from the command line: each with each line search, and what is refused with which words."""

import json
import math
from pathlib import Path

import pytest

from thalweg.cli.main import run
from thalweg.training.integrity.history import read_history

METHODS = ("bfgs", "lbfgs", "newton", "newton-cg", "levenberg-marquardt", "self-scaled-broyden", "kfac")
LINE_SEARCHES = ("armijo", "wolfe", "stochastic", "trust-region", "none")
SMALL = ("--hidden", 4, "--steps", 4, "--evaluate-every", 4)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "thalweg.training.session.finish.render_report", lambda report: "no pictures"
    )  # drawing takes longer


def train(capsys, *arguments):
    """Train in this process; return exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        run(["train", *map(str, arguments)])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def losses(name):
    return [entry["loss"] for entry in read_history(Path("runs") / name / "history.jsonl") if entry["event"] == "step"]


# Each method with two line searches and each line search with two methods or more: that every pair of them works is
# tested where they are composed.
PAIRS = [(method, LINE_SEARCHES[(i + k) % 5]) for i, method in enumerate(METHODS) for k in (0, 2)]


@pytest.mark.parametrize(("method", "line_search"), PAIRS)
def test_methods_train_with_line_searches(capsys, method, line_search):
    options = ("--optimizer", method, "--line-search", line_search, "--precision", "float64")
    code, out, err = train(capsys, "--task", "forecast", "sunspots", *options, *SMALL, "--json", "--quiet")
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["status"], summary["steps"], summary["optimizer"]) == ("COMPLETED", 4, method)
    first, *_, last = losses("sunspots")
    assert last < first or line_search == "none"  # whole steps without a search promise nothing
    assert math.isfinite(summary["metrics"]["nmse"])


ON_OTHER_TASKS = {
    "bag, all data": ("texts.csv", "--task", "classify", "--model", "bag", "--width", 4,
                      "--optimizer", "lbfgs", "--line-search", "wolfe", "--steps", 3),
    "bag, products only": ("texts.csv", "--model", "bag", "--width", 4,
                           "--optimizer", "newton-cg", "--line-search", "trust-region", "--steps", 2),
    "mini-batches": ("phrases", "--width", 4, "--optimizer", "adamw", "--line-search", "stochastic", "--steps", 6),
}  # fmt: skip


@pytest.mark.parametrize("case", ON_OTHER_TASKS)
def test_methods_without_matrices_train_text_models(capsys, case):
    rows = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(80)]
    Path("texts.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    code, out, err = train(capsys, *ON_OTHER_TASKS[case], "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["status"] == "COMPLETED"


WITH_OPTIONS = {
    "initial": ("bfgs", ("initial", "gauss-newton")),
    "initial with arguments": ("bfgs", ("initial", '{name = "diagonal", refresh = 2}')),
    "eigenvalues": ("newton", ("eigenvalues", '{name = "floor", least = 1e-4}')),
    "curvature": ("newton-cg", ("curvature", "hessian")),
    "preconditioner": ("newton-cg", ("preconditioner", "none")),
    "damping": ("newton", ("damping", "1e-2")),
    "damping with arguments": ("levenberg-marquardt", ("damping", "{initial = 1e-2, fall = 0.5}")),
    "no damping": ("newton-cg", ("damping", "false")),
    "number": ("bfgs", ("damping", "0.2")),
    "damping that stays": ("kfac", ("damping", "0.2")),
    "damping that adapts": ("kfac", ("damping", "{initial = 1e-2}")),
    "a switch": ("sophia", ("hessian", "true")),
}


@pytest.mark.parametrize("case", WITH_OPTIONS)
def test_options_of_a_method_are_named_too(capsys, case):
    method, (option, value) = WITH_OPTIONS[case]
    options = ("--optimizer", method, f"--optimizer-options.{option}", value)
    code, _, err = train(capsys, "sunspots", *options, *SMALL, "--quiet")
    assert code == 0, err
    first, *_, last = losses("sunspots")
    assert last < first
    code, _, err = train(capsys, "runs/sunspots/recipe.toml", "--name", "again", "--quiet")  # the recipe holds it
    assert code == 0, err
    assert losses("again") == losses("sunspots")


def options(*pairs):
    return [part for name, value in pairs for part in (f"--{name}", value)]


BAG = ["words.csv", "--model", "bag", "--bigrams", "0"]  # 220 texts of a hundred words that no other text has
REFUSED = {
    "a dense Hessian of 10 million weights": (
        [*BAG, *options(("width", 512), ("optimizer", "newton"))],
        ["dense matrix of 10,", "PB", "NewtonCG", "--optimizer newton-cg", "--optimizer lbfgs --line-search wolfe"],
    ),
    "a dense quasi-Newton matrix": ([*BAG, "--optimizer", "bfgs"], ["dense matrix of", "TB", "--optimizer lbfgs"]),
    "a dense Jacobian": (
        [*BAG, *options(("width", 512), ("optimizer", "levenberg-marquardt"))],
        ["dense matrix of", "GB", "newton-cg"],
    ),
    "an update in a trust region": (
        ["sunspots", *options(("optimizer", "adamw"), ("line-search", "trust-region"))],
        ["TrustRegion needs a direction with a quadratic model", "Update(AdamW)"],
    ),
    "an optimizer that takes no vectors": (
        ["sunspots", *options(("optimizer", "muon"), ("line-search", "armijo"))],
        ["--optimizer muon with --line-search armijo is invalid with these options", "2D"],
    ),
    "dropout": (
        ["sunspots", *options(("optimizer", "newton"), ("dropout", 0.3), ("layers", 2))],
        ["no second derivative", "dropout is active"],
    ),
    "a name in other letters": (
        ["sunspots", "--optimizer", "BFGS"],
        ["There is no optimizer 'BFGS'", "levenberg-marquardt", "adamw", "Did you mean 'bfgs'?"],
    ),
    "a name with a hyphen": (["sunspots", "--optimizer", "l-bfgs"], ["Did you mean 'lbfgs'?"]),
    "a line search in other letters": (
        ["sunspots", *options(("optimizer", "bfgs"), ("line-search", "Wolfe"))],
        ["expected one of none, armijo", "Did you mean 'wolfe'?"],
    ),
    "an unknown option": (
        ["sunspots", *options(("optimizer", "bfgs"), ("optimizer-options.memory", 3))],
        ["--optimizer bfgs has no option 'memory'; it has damping, initial, max_bytes."],
    ),
    "text for a number": (
        ["sunspots", *options(("optimizer", "newton-cg"), ("optimizer-options.tolerance", "small"))],
        ["--optimizer-options.tolerance of newton-cg must be a number; got 'small'."],
    ),
    "text for a damping": (
        ["sunspots", *options(("optimizer", "newton"), ("optimizer-options.damping", "much"))],
        ["must be a number, the damping to begin with; got 'much'."],
    ),
    "an unknown part": (
        ["sunspots", *options(("optimizer", "newton"), ("optimizer-options.eigenvalues", "flor"))],
        ["There is no eigenvalues 'flor'", "Did you mean 'floor'?"],
    ),
    "an argument out of range": (
        ["sunspots", *options(("optimizer", "lbfgs"), ("line-search", "wolfe"), ("optimizer-options.memory", 0))],
        ["LBFGS(memory=...) must lie in [1, 10000]; got 0."],
    ),
    "an argument of a part out of range": (
        ["sunspots", *options(("optimizer", "newton"), ("optimizer-options.eigenvalues", "{name='floor', least=2.0}"))],
        ["--optimizer-options.eigenvalues of newton cannot be", "Floor(least=...) must lie in (0, 1)"],
    ),
    "an argument that a curvature has not": (
        ["sunspots", *options(("optimizer", "newton"), ("optimizer-options.curvature", "{name='hessian', k=2}"))],
        ["takes a name only"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_ends_with_a_sentence_and_leaves_nothing(tmp_path, capsys, case):
    arguments, words = REFUSED[case]
    rows = [f"{' '.join(f'w{100 * k + i}' for i in range(100))},{'good' if k % 2 else 'bad'}" for k in range(220)]
    Path("words.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    code, out, err = train(capsys, *arguments, "--steps", 2)
    assert code == 2, err
    sentence = err.splitlines()[-1]
    assert sentence.startswith("error: ")
    for word in words:
        assert word in sentence, sentence
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "runs").exists()
