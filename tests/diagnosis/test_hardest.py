"""The hardest training examples against losses that are computed one by one, and their texts against the file."""

import pytest
import torch

from thalweg.diagnosis.hardest import hardest
from thalweg.diagnosis.of_run import subject_of_run
from thalweg.training.folder.again import read_again, texts_at
from thalweg.training.session.api import train

ROWS = [f"{'fine' if k % 2 else 'awful'} thing {k % 37} {k},{'good' if k % 2 else 'bad'}" for k in range(80)]
WRONG = 30  # a row whose label is the other one


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hardest")
    rows = list(ROWS)
    rows[WRONG] = rows[WRONG].replace(",bad", ",good")
    (folder / "reviews.csv").write_text("review,stars\n" + "\n".join(rows) + "\n")
    options = {"model": "bag", "width": 8, "optimizer": "adamw", "lr": 0.05, "epochs": 20, "batch_size": 16}
    return train(folder / "reviews.csv", out=folder, valid_share=0.1, **options)


def test_hardest_examples_are_those_of_the_largest_losses_with_their_own_texts(run):
    subject = subject_of_run(run)
    found = hardest(run, subject)
    assert len(found) == 20
    task, prepared = read_again(run)
    losses = {}
    for row, line in enumerate(prepared.lines.tolist()):
        batch = task.training_batch(prepared.train, torch.tensor([row]).numpy())
        with torch.no_grad():
            total, _ = run.head.loss_from_hidden(run.model(**batch.inputs), batch.targets, batch.mask, batch.weights)
        losses[line] = float(total)
    seen = {prepared.lines[row] for row in subject.data.rows}
    expected = sorted((line for line in losses if line in seen), key=lambda line: -losses[line])[:20]
    assert [one["loss"] for one in found] == pytest.approx([losses[line] for line in expected], rel=1e-4)
    for one in found:
        text, _, label = ROWS[one["line"] - 2].partition(",")
        assert one["text"] == text
        assert one["target"] == (label if one["line"] != WRONG + 2 else "good")
        assert one["prediction"] == run.predict([text])[0]["label"]


def test_texts_of_lines_are_read_from_the_file(run):
    assert texts_at(run, run.task, [4, 2]) == {2: [ROWS[0].split(",")[0]], 4: [ROWS[2].split(",")[0]]}
    assert texts_at(run, run.task, []) == {}
