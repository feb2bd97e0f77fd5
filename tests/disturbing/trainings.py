"""Small trainings of every task, and other commands on their runs: what is disturbed."""

import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]


def write_texts(folder: Path) -> None:
    """Write texts with labels, rows for new ones, and a stream of them."""
    generator = random.Random(0)
    rows = ["text,label"]
    for number in range(60):
        label = ("good", "bad")[number % 2]
        mark = {"good": "fine", "bad": "awful"}[label] if generator.random() < 0.9 else "plain"
        rows.append(f"{' '.join(generator.choices(WORDS, k=4))} {mark},{label}")
    (folder / "texts.csv").write_text("\n".join(rows[:49]) + "\n")
    (folder / "new.csv").write_text("\n".join([rows[0], *rows[49:]]) + "\n")
    (folder / "stream.csv").write_text("\n".join([rows[0], *rows[1:49] * 3]) + "\n")


def write_tags(folder: Path) -> None:
    """Write sentences with tags."""
    generator = random.Random(1)
    lines = []
    for _ in range(30):
        for word in generator.choices(WORDS, k=4):
            lines.append(f"{word}\t{'B-X' if word in WORDS[:3] else 'O'}")
        lines.append("")
    (folder / "tags.conll").write_text("\n".join(lines) + "\n")


def write_pairs(folder: Path) -> None:
    """Write pairs of texts with a number."""
    generator = random.Random(2)
    rows = []
    for _ in range(40):
        one, other = (generator.choices(WORDS, k=3) for _ in range(2))
        rows.append({"sentence1": " ".join(one), "sentence2": " ".join(other), "score": len({*one} & {*other}) / 3})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_series(folder: Path) -> None:
    """Write two numbers a row."""
    generator = random.Random(3)
    rows = ["year,a,b", *(f"{1900 + k},{k % 5 + generator.random():.3f},{k % 7}" for k in range(60))]
    (folder / "series.csv").write_text("\n".join(rows) + "\n")


def write_prose(folder: Path) -> None:
    """Write running text."""
    generator = random.Random(4)
    (folder / "prose.txt").write_text("\n".join(" ".join(generator.choices(WORDS, k=8)) for _ in range(80)) + "\n")


def write_lines(folder: Path) -> None:
    """Write texts with their translations."""
    generator = random.Random(5)
    rows = []
    for _ in range(40):
        words = generator.choices(WORDS, k=3)
        rows.append({"source": " ".join(words), "target": " ".join(word[::-1] for word in words)})
    (folder / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


WRITERS: Final = (write_texts, write_tags, write_pairs, write_series, write_prose, write_lines)
SMALL: Final = "--width 4 --hidden 4 --heads 2 --layers 1"


def write_data(folder: Path) -> None:
    """Write the files of all trainings."""
    for write in WRITERS:
        write(folder)


@final
@dataclass(frozen=True)
class Disturbed:
    """Commands of which the last is disturbed.

    Args:
        name: of the whole.
        command: what is disturbed and repeated until it ends.
        before: commands that run before, undisturbed.
        replaces: the finished run that it replaces, which must not be lost before.
        leaves: how the names of temporary files begin that it may leave for ever, in a folder that is no run's.
    """

    name: str
    command: str
    before: tuple[str, ...] = ()
    replaces: str = ""
    leaves: str = " "

    @property
    def target(self) -> str:
        """The folder under `runs` that it works on."""
        found = re.search(r"--name (\S+)", self.command)
        return re.findall(r"runs/(\S+)", self.command)[0] if found is None else found[1]


_BAG = f"train texts.csv --model bag --l2 0.01 {SMALL} --batch-size 16 --epochs 3 --name x --quiet"
_WRITING = "prose.txt --task language --max-length 16 --batch-size 16"
_COMPARED = "compare texts.csv --optimizers adamw,sgd --steps 4 --trials 2 --seeds 2 --batch-size 16 --quiet --name c"

# What is trained, small, under the name x.
_TRAINED = {
    "bag": "texts.csv --model bag --optimizer adamw --batch-size 16 --epochs 4",
    "patience": "texts.csv --model bag --optimizer adamw --lr 0.5 --batch-size 16 --epochs 12 --patience 2",
    "dropout": "texts.csv --model lstm --dropout 0.3 --batch-size 16 --epochs 3 --optimizer adamw",
    "auto": "texts.csv --model lstm --batch-size 16 --epochs 4",
    "lbfgs": "texts.csv --model bag --optimizer lbfgs --batch-size 0 --steps 6",
    "newton-cg": "texts.csv --model mlp --optimizer newton-cg --batch-size 0 --steps 5",
    "momentum": "texts.csv --model mlp --optimizer sgd --optimizer-options.momentum 0.9 --accumulate 2 --batch-size 8 "
    "--epochs 3",
    "averaged": "texts.csv --model mlp --optimizer adamw --average ema --batch-size 16 --epochs 3",
    "greedy": "texts.csv --model bag --optimizer adamw --schedule greedy --batch-size 16 --epochs 4",
    "tag": "tags.conll --optimizer adamw --batch-size 8 --epochs 3",
    "crf": "tags.conll --head crf --optimizer soap --batch-size 8 --epochs 3",
    "score": "pairs.jsonl --optimizer adamw --batch-size 8 --epochs 3",
    "score-auto": "pairs.jsonl --task score --epochs 3",
    "forecast": "series.csv --task forecast --lags 4 --model mlp --optimizer kfac --batch-size 16 --epochs 3",
    "language": f"{_WRITING} --model transformer --tokenizer char --steps 12 --optimizer normuon",
    "muon": f"{_WRITING} --model transformer --tokenizer char --steps 10 --optimizer polar-muon",
    "sampled": f"{_WRITING} --model lstm --tokenizer word --steps 10 --optimizer adamw --head sampled",
    "continuous": f"{_WRITING} --model lstm --tokenizer word --steps 10 --optimizer adamw --head vmf",
    "translate": "lines.jsonl --task translate --tokenizer word --batch-size 8 --epochs 2 --optimizer adamw",
}

TRAININGS: Final = {
    case.name: case
    for case in (
        *(Disturbed(name, f"train {more} {SMALL} --name x --quiet") for name, more in _TRAINED.items()),
        Disturbed("proved", "train texts.csv --certify 0.05 --select none --no-refit --name x --quiet"),
        Disturbed("selected", "train texts.csv --name x --quiet"),
        Disturbed("forecast-ar", "train series.csv --task forecast --name x --quiet"),
        Disturbed("started", "train new.csv --start-from runs/x --epochs 3 --batch-size 4 --name y --quiet", (_BAG,)),
        Disturbed("longer", "train --resume runs/x --epochs 5 --quiet", (_BAG,)),
        Disturbed("overwrite", f"{_BAG} --overwrite --lr 0.02", (_BAG,), "x"),
        Disturbed("certify", "certify runs/x --seconds 60 --quiet", (_BAG,)),
        Disturbed("polish", "certify runs/x --polish --seconds 60 --quiet", (_BAG,)),
        Disturbed("diagnose", "diagnose runs/x --quiet", (_BAG,)),
        Disturbed("evaluate", "evaluate runs/x new.csv --report runs/page.html", (_BAG,), leaves=".page.html."),
        Disturbed("compare", f"{_COMPARED} --model bag {SMALL}"),
        Disturbed("online", "train stream.csv --online --name s --quiet"),
    )
}
TIMED: Final = Disturbed(
    "timed", "train texts.csv --model bag --optimizer adamw --time 0.6 --batch-size 16 --name x --quiet"
)
