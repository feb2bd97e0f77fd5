"""Distillation: what a teacher says becomes soft targets, whose optimum is proved, and which the run keeps."""

import random
import shutil

import numpy as np
import pytest
import scipy.optimize
from safetensors.numpy import load_file

from thalweg.data.containers.opening import open_any
from thalweg.errors import InputError
from thalweg.status import Status
from thalweg.tasks.reading.taught import GIVEN, TARGETS, Unlabeled
from thalweg.training.certified.certify import certify
from thalweg.training.certified.risk import risk_on_new_texts
from thalweg.training.distilled.teacher import kept_teacher, milliseconds
from thalweg.training.folder.again import read_again
from thalweg.training.folder.opening import task_in
from thalweg.training.folder.run import Run
from thalweg.training.integrity.run_files import TEACHER
from thalweg.training.session.api import train

WORDS = {"sea": "wave tide shore boat sand", "hill": "peak rock slope goat snow", "town": "road shop square bus noise"}


def text(label, random_words):
    common = random_words.choices(["the", "a", "we", "saw", "old", "new", "fine"], k=3)
    other = random_words.choice([word for words in WORDS.values() for word in words.split()])
    return " ".join([*random_words.choices(WORDS[label].split(), k=2), *common, other])


def texts(count, seed=0):
    random_words = random.Random(seed)
    labels = [list(WORDS)[number % 3] for number in range(count)]
    return [text(label, random_words) for label in labels], labels


def table(path, count, seed, *, labels=True):
    rows = zip(*texts(count, seed), strict=True)
    lines = [f"{one},{label}" if labels else one for one, label in rows]
    path.write_text("\n".join(["text,label" if labels else "text", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with a teacher in `runs/teacher` and data: labeled, and unlabeled."""
    folder = tmp_path_factory.mktemp("distilled")
    table(folder / "old.csv", 90, 1)
    table(folder / "new.csv", 60, 2)
    table(folder / "bare.csv", 60, 3, labels=False)
    train(folder / "old.csv", model="linear", l2=0.01, out=folder / "runs", name="teacher")
    return folder


def distilled(place, data, **options):
    options = {"model": "linear", "l2": 0.02, "valid_share": 0.2, "refit": False} | options
    said = []
    start = place / "runs" / "teacher"
    options.setdefault("name", f"r{len(list((place / 'runs').iterdir()))}")
    run = train(place / data, start_from=str(start), distill=True, out=place / "runs", say=said.append, **options)
    return run, said


def test_the_proved_optimum_of_soft_targets_is_that_of_scipy(place):
    run, _ = distilled(place, "new.csv")
    task, prepared = read_again(run)
    rows = np.arange(len(prepared.train))
    batch = task.training_batch(prepared.train, rows)
    features = np.zeros((len(rows), task.shape().vocabulary_size))
    teacher = Run(place / "runs" / "teacher")
    ids, weights = (prepared.train.ragged(name) for name in ("tokens", "weights"))
    for row in rows:
        np.add.at(features[row], ids[row], weights[row])
    expected = teacher.task.scores(teacher.model, teacher.head, prepared.train.raw or texts_of(prepared, place))[1]
    np.testing.assert_allclose(batch.targets.numpy(), expected, atol=1e-6)
    targets, shape = batch.targets.numpy().astype(np.float64), (features.shape[1], 3)

    def loss(flat):
        weight, bias = flat[:-3].reshape(shape), flat[-3:]
        scores = features @ weight + bias
        top = scores.max(1, keepdims=True)
        log_sum = top + np.log(np.exp(scores - top).sum(1, keepdims=True))
        pull = (np.exp(scores - log_sum) * targets.sum(1, keepdims=True) - targets) / len(rows)
        value = (targets * (log_sum - scores)).sum() / len(rows) + 0.5 * 0.02 * (weight**2).sum()
        return value, np.concatenate([(features.T @ pull + 0.02 * weight).ravel(), pull.sum(0)])

    best = scipy.optimize.minimize(loss, np.zeros(shape[0] * 3 + 3), jac=True, method="L-BFGS-B", tol=1e-12)
    level = next(one for one in certify(run).levels if one.name == "linear")
    assert level.bound <= best.fun + 1e-9
    assert level.loss == pytest.approx(best.fun, rel=1e-4)


def texts_of(prepared, place):
    lines = (place / "new.csv").read_text().splitlines()
    return [lines[line - 1].split(",")[0] for line in prepared.lines]


def test_a_run_keeps_what_it_has_learned_from(place, tmp_path):
    away = tmp_path / "runs" / "gone"
    shutil.copytree(place / "runs" / "teacher", away)
    runs = [
        train(place / "new.csv", model="lstm", width=4, hidden=4, steps=2, start_from=start, distill=True,
              distill_weight=weight, valid_share=0.2, out=tmp_path / "runs", name=name)
        for name, start, weight in (("all", away, 1.0), ("half", away, 0.5))
    ]  # fmt: skip
    assert TEACHER in runs[0].ledger
    shutil.rmtree(away)
    tables = []
    for run in runs:
        train_part = read_again(Run(run.folder))[1].train
        tables.append(np.asarray(train_part.columns[TARGETS]))
        assert next(one for one in certify(run, seconds=2).levels if one.name == "floor").bound > 0.0
    labels = np.asarray(train_part.columns["labels"])
    np.testing.assert_allclose(tables[1], 0.5 * tables[0] + 0.5 * np.eye(3)[labels], atol=1e-6)
    kept = load_file(runs[0].folder / TEACHER)
    assert kept["train.targets"].shape == (60, 3)


def test_texts_without_labels_have_the_teachers(place):
    run, said = distilled(place, "bare.csv")
    assert f"{place / 'bare.csv'} has no column 'label': the teacher's answers stand for it." in said
    teacher = Run(place / "runs" / "teacher")
    again = read_again(Run(run.folder))[1]
    assert run.task.labels == teacher.task.labels
    valid = again.valid
    assert (np.asarray(valid.columns["labels"]) == np.asarray(valid.columns[GIVEN])).all()
    expected = f"This model gives the teacher's label to {run.metrics['accuracy']:.1%} of the {len(valid)} validation"
    assert any(note.startswith(expected) for note in run.result["interval_notes"])
    assert run.evaluate(place / "new.csv").metrics["accuracy"] > 0.8


def test_the_summary_sets_both_side_by_side(place):
    run, _ = distilled(place, "new.csv")
    valid = read_again(run)[1].valid
    right = (np.asarray(valid.columns["labels"]) == np.asarray(valid.columns[GIVEN])).mean()
    note = next(note for note in run.result["interval_notes"] if note.startswith("The teacher is right on"))
    assert f"{right:.1%} and this model on {run.metrics['accuracy']:.1%} of the {len(valid)} validation texts" in note
    assert "ms in place of" in note
    own, _ = distilled(place, "old.csv")
    assert any(note.startswith("The teacher was trained with these data") for note in own.result["interval_notes"])
    assert milliseconds(run.task, run.model, run.head, ["a wave"]) > 0.0


def test_a_run_goes_on_without_its_teacher(place, tmp_path):
    gone = tmp_path / "runs" / "gone"
    shutil.copytree(place / "runs" / "teacher", gone)
    options = {"model": "lstm", "width": 4, "hidden": 4, "steps": 2, "out": tmp_path / "runs", "name": "on"}
    run = train(place / "new.csv", start_from=gone, distill=True, **options)
    shutil.rmtree(gone)
    longer = train(resume=run.folder, steps=4)
    assert (longer.status, longer.result["steps"]) == (Status.COMPLETED, 4)


def test_nothing_is_said_of_labels_that_were_not_trained_on(place):
    run, _ = distilled(place, "new.csv")
    with pytest.raises(InputError, match="--risk trains again on half of the labels"):
        risk_on_new_texts(run)
    floor = next(one for one in certify(run).levels if one.name == "floor")
    assert "have more than one target" in floor.scope


def test_several_labels(tmp_path):
    rows = [{"text": one, "label": [label, "wet"] if label == "sea" else [label]}
            for one, label in zip(*texts(60, 4), strict=True)]  # fmt: skip
    teacher = train(rows, model="linear", l2=1e-3, out=tmp_path, name="teacher")
    run = train([{"text": row["text"]} for row in rows], start_from=teacher.folder, distill=True, model="linear",
                l2=1e-3, out=tmp_path, name="pupil")  # fmt: skip
    assert run.task.multilabel
    assert run.evaluate(rows).metrics["macro_f1"] > 0.8
    assert "linear" in {one.name for one in certify(run).levels}


def test_numbers_come_from_the_teacher(tmp_path):
    value = {"sea": 1.0, "hill": 2.5, "town": 4.0}
    rows = [{"text": one, "score": value[label] + 0.1 * (place % 2)}
            for place, (one, label) in enumerate(zip(*texts(60, 5), strict=True))]  # fmt: skip
    teacher = train(rows, task="score", model="linear", out=tmp_path, name="teacher")
    bare = [{"text": row["text"]} for row in rows]
    pupil = train(bare, start_from=teacher.folder, distill=True, model="linear", out=tmp_path, name="pupil")
    answers = [row["score"] for row in teacher.predict([row["text"] for row in rows])]
    prepared = read_again(pupil)[1]
    targets = pupil.task.scaling.inverse(np.asarray(prepared.train.columns[TARGETS], dtype=np.float64))[:, 0]
    np.testing.assert_allclose(sorted(targets), sorted(np.array(answers)[prepared.lines - 1]), atol=1e-5)
    half = train(rows, start_from=teacher.folder, distill=True, distill_weight=0.5, out=tmp_path, name="half")
    assert any("mean absolute error" in note for note in half.result["interval_notes"])


def test_a_folder_that_was_changed_is_refused(place, tmp_path):
    run, _ = distilled(place, "new.csv", model="linear")
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    (copy / TEACHER).write_bytes((copy / TEACHER).read_bytes()[:-8])
    with pytest.raises(InputError, match=r"teacher\.safetensors"):
        read_again(Run(copy))
    opened = Run(run.folder)
    teacher = kept_teacher(opened, task_in(opened))
    source = open_any(str(place / "bare.csv"))
    assert isinstance(teacher.labeled(source), Unlabeled)
