"""A new task is a folder and a line in `names.TASKS`: one that tells the mood of melodies, from header to answer."""

import json
import random

import pytest

from thalweg import load, names, train
from thalweg.cli.main import run as command_line

SPEC = """
from thalweg.tasks.spec import ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="melody",
    task="melody.task:Melody",
    columns="melody.columns:COLUMNS",
    sample="",
    models={"counts": ModelSpec("melody.task:build", "counts")},
    defaults={"model": "counts", "lr": 0.1, "epochs": 30.0},
)
"""

COLUMNS = """
from thalweg.data import Choice, Kind, Rule, TaskColumns, name_score

NAMES = ("melody", "tune", "notes")


def choose(table):
    melody = table.best("melody", lambda one: name_score(one.name, NAMES) or None)
    mood = table.best("mood", lambda one: name_score(one.name, ("mood",)) or None)
    if melody is None or mood is None:
        raise table.fail("a melody and its mood", "name them with --text-column and --label-column")
    told = table.sentence(f"Melody {melody.name!r}, mood {mood.name!r}")
    return Choice("melody", {"melody": melody.name, "mood": mood.name}, told)


def has_melody(table):
    return any(name_score(one.name, NAMES) for one in table.facts)


COLUMNS = TaskColumns(
    "melody",
    {"melody": Kind.TEXT, "mood": Kind.LABEL},
    choose,
    (Rule(0.99, "there are melodies", has_melody),),
    options={"text": "melody", "label": "mood"},
)
"""

TASK = """
import json

import numpy as np
import torch
from torch import nn

from thalweg.batch import Batch
from thalweg.data import Examples
from thalweg.heads.bernoulli import Bernoulli
from thalweg.models.presets import ModelShape
from thalweg.tasks import AbstractMeter, AbstractTask, Prepared

NOTES = "CDEFGAB"
MOODS = ("sad", "merry")


class Counts(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer, self.width = nn.Linear(len(NOTES), width), width

    def forward(self, counts):
        return torch.relu(self.layer(counts))


def build(shape, options):
    return Counts(options.width)


class Meter(AbstractMeter):
    def __init__(self):
        self.right = []

    def update(self, prediction, batch):
        self.right.append((prediction > 0) == (batch.targets > 0.5))

    def compute(self):
        return {"accuracy": float(torch.cat(self.right).double().mean())}


class Melody(AbstractTask):
    name = "melody"
    inputs = ("melody",)
    selects_by = ("accuracy", "higher")
    explanations = {"accuracy": ("higher", "Fraction of melodies whose mood is right.")}

    @classmethod
    def prepare(cls, source, valid, settings):
        task = cls()
        examples, notes = task.examples(source, settings.columns)
        cut = round(len(examples) * (1 - settings.valid_share))
        parts = [Examples({k: v[s] for k, v in examples.columns.items()}) for s in (slice(0, cut), slice(cut, None))]
        return task, Prepared(*parts, notes)

    def examples(self, source, columns):
        wanted = columns["melody"], columns["mood"]
        rows = [row for chunk in source.chunks() for row in zip(*map(chunk.column, wanted))]
        counts = np.array([self.counts(melody) for melody, _ in rows], dtype=np.float32)
        moods = np.array([[MOODS.index(mood)] for _, mood in rows], dtype=np.float32)
        return Examples({"counts": counts, "moods": moods}), []

    def counts(self, melody):
        return [melody.count(note) for note in NOTES]

    def files(self):
        return {"moods.json": json.dumps(MOODS).encode()}

    @classmethod
    def load(cls, folder, settings):
        assert json.loads((folder / "moods.json").read_text()) == list(MOODS)
        return cls()

    def shape(self):
        return ModelShape()

    def head(self, model, options):
        return Bernoulli(model.width, 1)

    def batch(self, examples, indices):
        counts, moods = (torch.from_numpy(examples.columns[name][indices]) for name in ("counts", "moods"))
        return Batch({"counts": counts}, moods)

    def meter(self):
        return Meter()

    def predict(self, model, head, inputs, options):
        with torch.no_grad():
            found = head(model(torch.tensor([self.counts(melody) for melody in inputs]).float()))[:, 0] > 0
        return [{"melody": melody, "mood": MOODS[int(merry)]} for melody, merry in zip(inputs, found)]

    def sections(self, model, head, prepared, seed):
        rows = [[note, int(count)] for note, count in zip(NOTES, prepared.valid.columns["counts"].sum(0))]
        text = "How often each note comes."
        return [{"kind": "table", "title": "Notes heard", "text": text, "columns": ["note", "count"], "rows": rows}]

    def describe(self, prepared):
        return f"{len(prepared.train)} melodies"
"""


@pytest.fixture
def melodies(tmp_path, monkeypatch):
    """The new task, and a file for it: a melody is merry if it has more E than D."""
    folder = tmp_path / "code" / "melody"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("spec", SPEC), ("columns", COLUMNS), ("task", TASK)):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.setitem(names.TASKS, "melody", "melody.spec:SPEC")  # the one line
    monkeypatch.chdir(tmp_path)
    draw = random.Random(3)
    tunes = [" ".join(draw.choices("CDEFGAB", k=9)) for _ in range(240)]
    tunes = [tune for tune in tunes if tune.count("E") != tune.count("D")]
    rows = [f"{tune},{'merry' if tune.count('E') > tune.count('D') else 'sad'}" for tune in tunes]
    (tmp_path / "songs.csv").write_text("\n".join(["tune,mood", *rows]) + "\n")
    return tmp_path / "songs.csv"


def test_a_new_task_needs_no_other_edit(melodies, capsys):
    said = []
    trained = train(melodies, seed=1, say=said.append)
    assert said[:2] == [
        "Task melody: there are melodies; --task chooses another.",
        "Melody 'tune', mood 'mood'; --text-column and --label-column choose others.",
    ]
    run = load(trained.folder)
    assert (run.recipe.run.task, run.recipe.data.text_column, run.recipe.data.label_column) == (
        "melody",
        "tune",
        "mood",
    )
    assert run.evaluate(melodies).metrics["accuracy"] > 0.95
    assert run.predict(["E E E", "D D D"]) == [{"melody": "E E E", "mood": "merry"}, {"melody": "D D D", "mood": "sad"}]
    assert "Notes heard" in (run.folder / "report.html").read_text()

    def typed(*words):
        with pytest.raises(SystemExit, match=r"^0$"):
            command_line([*words])
        return capsys.readouterr().out

    assert typed("predict", str(run.folder), "E E E") == "merry\n"
    with open(melodies, encoding="utf-8") as file:
        moods = [line.strip().split(",")[1] for line in list(file)[1:]]
    answers = typed("predict", str(run.folder), "--file", "songs.csv").split()
    assert sum(map(str.__eq__, answers, moods)) > 0.95 * len(moods) == 0.95 * len(answers)
    assert json.loads(typed("evaluate", str(run.folder), "songs.csv", "--json"))["metrics"]["accuracy"] > 0.95
    found = json.loads(typed("data", "songs.csv", "--json"))
    assert (found["task"], found["choice"]["columns"]) == ("melody", {"melody": "tune", "mood": "mood"})
    assert set(found["labels"]) == {"merry", "sad"}
    assert typed("train", "songs.csv", "--task", "melody", "--epochs", "1", "--name", "again", "--quiet", "--json")
