"""How fast a CSV file becomes what a classifier trains on, and how much memory that takes.

Used by `loop.py`. The code that is measured is that of training: `Classify.prepare` on a file.
"""

import contextlib
import csv
import functools
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from table import Row

from thalweg.data.arrays.ragged import Spill
from thalweg.data.files.sources import FileSource, open_source
from thalweg.data.text.features import BagFeatures
from thalweg.data.text.normalize import Normalizer
from thalweg.data.text.word_index import WordIndex
from thalweg.tasks.base import Settings
from thalweg.tasks.classify import task as classify
from thalweg.tasks.classify.task import Classify
from thalweg.tasks.reading import draft
from thalweg.tasks.reading.draft import TextDraft
from thalweg.tasks.reading.labels import LabelReader

COLUMNS = {"text": "text", "label": "label"}


def make_csv(path: Path, num_bytes: int, seed: int = 0) -> int:
    """Write texts of made-up words with the frequencies of a natural language, and labels; return the number of words.

    A word is what lies between spaces. One text in fifty has letters outside ASCII; one in five is quoted.
    """
    rng = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    weights = 1.0 / (np.arange(26) + 3.0)
    lengths = np.clip(rng.poisson(1.5 + 0.3 * np.log2(1 + np.arange(100_000))), 1, 18)
    flat = "".join(rng.choice(letters, size=int(lengths.sum()), p=weights / weights.sum()))
    ends = np.cumsum(lengths)
    words = np.array([flat[end - length : end] for end, length in zip(ends, lengths, strict=True)], dtype=object)
    shares = np.cumsum(1.0 / (np.arange(len(words)) + 2.7))
    num_words = written = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS.values())
        while written < num_bytes:
            sizes = np.clip(rng.lognormal(3.3, 0.7, size=2000).astype(int), 3, 400)
            chosen = words[np.searchsorted(shares, rng.random(int(sizes.sum())) * shares[-1])].tolist()
            kinds, start = rng.random(len(sizes)), 0
            for size, kind in zip(sizes.tolist(), kinds.tolist(), strict=True):
                row = chosen[start : start + size]
                start += size
                row[0] = row[0].capitalize()
                row[size // 2] += "'s" if kind < 0.5 else ","
                if kind < 0.2:
                    row[1] = f'"{row[1]}",'
                elif kind > 0.98:
                    row[-1] += "\u00e9\u00df"
                text = " ".join(row) + "."
                writer.writerow([text, f"label {len(row[1]) % 10}"])
                num_words += size
                written += len(text) + 9
    return num_words


def settings_for(layout: str, folder: Path, **options: Any) -> Settings:
    bigrams, size = (100_000, 50_000) if layout == "bag" else (0, 30_000)  # the defaults of the models
    values = {
        "columns": COLUMNS, "valid_share": 0.1, "normalize": ("nfc", "lower", "spaces"), "tokenizer": "word",
        "vocabulary_size": size, "bigrams": bigrams, "max_length": 256, "lags": 0, "scaling": "none",
        "layout": layout, "spill": Spill(folder),
    }  # fmt: skip
    return Settings(**{**values, **options})


@final
class Stages:
    """CPU seconds by stage while functions of the package run as they are; a stage within a stage counts by itself."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = ["other"]
        self._since = time.process_time()
        self._undo: list[tuple[Any, str, Any]] = []

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside for a stage."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def watch(self, owner: Any, attribute: str, name: str, *, generator: bool = False) -> None:
        """Let every call of a function, or every piece of a generator, count for a stage."""
        inner = getattr(owner, attribute)

        @functools.wraps(inner)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return inner(*arguments, **options)

        @functools.wraps(inner)
        def timed_each(*arguments: Any, **options: Any) -> Iterator[Any]:
            chunks = inner(*arguments, **options)
            while True:
                with self.stage(name):
                    chunk = next(chunks, None)
                if chunk is None:
                    return
                yield chunk

        self._undo.append((owner, attribute, vars(owner)[attribute]))
        setattr(owner, attribute, timed_each if generator else timed)

    def close(self) -> dict[str, float]:
        """Put the functions back and return the seconds."""
        self._turn()
        for owner, attribute, inner in self._undo:
            setattr(owner, attribute, inner)
        return dict(self.seconds)


def prepare_in_stages(path: Path, layout: str) -> tuple[float, float, dict[str, float]]:
    """Return CPU and wall seconds of `Classify.prepare`, opening the file included, and CPU seconds by stage."""
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_for(layout, Path(folder))
        stages = Stages()
        stages.watch(FileSource, "chunks", "read", generator=True)
        stages.watch(Normalizer, "many", "normalize")
        stages.watch(draft, "text_keys", "keys of the texts")
        stages.watch(LabelReader, "read", "labels")
        stages.watch(TextDraft, "reader", "vocabulary")
        stages.watch(TextDraft, "ids", "ids")
        stages.watch(WordIndex, "encode", "encode")
        stages.watch(BagFeatures, "fit", "choose features")
        stages.watch(BagFeatures, "transform", "features")
        cpu, wall = time.process_time(), time.perf_counter()
        Classify.prepare(open_source(path), None, settings)
        seconds = time.process_time() - cpu, time.perf_counter() - wall
        return *seconds, stages.close()


def plain_python(path: Path) -> int:
    """csv, lower case, split at spaces, count, look up: what one writes by hand."""
    counts: Counter[str] = Counter()
    texts: list[list[str]] = []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for text, _ in reader:
            words = text.lower().split()
            counts.update(words)
            texts.append(words)
    ids = {word: number for number, (word, _) in enumerate(counts.most_common(30_000), start=4)}
    encoded = [np.array([ids.get(word, 1) for word in words], dtype=np.int32) for words in texts]
    return len(encoded)


def texts_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [text for text, _ in itertools.islice(csv.reader(file), 1, None)]


def count_vectorizer(path: Path) -> int:
    """scikit-learn's counts of words."""
    return CountVectorizer(max_features=30_000).fit_transform(texts_of(path)).shape[0]


def tfidf_vectorizer(path: Path) -> int:
    """scikit-learn's TF-IDF of words and pairs of words."""
    pairs = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=150_000, sublinear_tf=True)
    return pairs.fit_transform(texts_of(path)).shape[0]


def measure_reading(quick: bool) -> Iterator[Row]:
    """Millions of words a second from a CSV file to the arrays that training takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.csv"
        num_words = make_csv(path, 2_000_000 if quick else 50_000_000)
        part = Path(folder) / "part.csv"
        num_part = make_csv(part, 1_000_000 if quick else 10_000_000, seed=1)
        about = {"megabytes": path.stat().st_size / 1e6, "words": num_words}
        for layout, what in (("padded", "ids (transformer, LSTM)"), ("bag", "ids and TF-IDF of words and pairs (bag)")):
            runs = [prepare_in_stages(path, layout) for _ in range(1 if quick else 3)]
            cpu = statistics.median(run[0] for run in runs)
            details = {"cpu_seconds": cpu, "wall_seconds": statistics.median(run[1] for run in runs), **about}
            stages = {name: statistics.median(run[2].get(name, 0.0) for run in runs) for name in runs[0][2]}
            rate = num_words / cpu / 1e6
            yield Row(
                "reading", f"CSV to {what}", rate, "million words a CPU second", ">= 1", rate >= 1,
                {**details, "cpu_seconds_by_stage": stages},
            )  # fmt: skip
        for name, read, file, number in (
            ("csv, str.split, dict", plain_python, path, num_words),
            ("scikit-learn CountVectorizer", count_vectorizer, path, num_words),
            ("scikit-learn TfidfVectorizer of pairs", tfidf_vectorizer, part, num_part),
        ):
            cpu, wall = time.process_time(), time.perf_counter()
            read(file)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            yield Row(
                "reading", f"peer: {name}", number / cpu / 1e6, "million words a CPU second",
                details={"cpu_seconds": cpu, "wall_seconds": wall},
            )  # fmt: skip


# --- Memory -----------------------------------------------------------------------------------------------------------


def anonymous_bytes() -> int:
    """Memory of this process that is no page of a file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def print_memory(layout: str, path: Path) -> None:
    """Prepare a file while keeping little in memory, and print the most memory used beyond that at the start."""
    classify.TextColumn = functools.partial(classify.TextColumn, max_characters=2**20)  # type: ignore[misc]
    peak, before, done = 0, anonymous_bytes(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as folder:
        _, prepared = Classify.prepare(
            open_source(path), None, settings_for(layout, Path(folder), spill=Spill(Path(folder), 2**20))
        )
        done.set()
        watcher.join()
        rows = len(prepared.train) + len(prepared.valid)
    print(json.dumps({"megabytes": (max(peak, anonymous_bytes()) - before) / 1e6, "rows": rows}))


def measure_memory(quick: bool) -> Iterator[Row]:
    """How much more memory a file of four times the size takes, each in a process of its own."""
    size = 2_000_000 if quick else 25_000_000
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{times}.csv" for times in (1, 4)]
        for times, path in zip((1, 4), paths, strict=True):
            make_csv(path, times * size)
        for layout in ("padded", "bag"):
            small, large = (json.loads(output_of(__file__, layout, str(path))) for path in paths)
            more = large["megabytes"] - small["megabytes"]
            ratio = large["megabytes"] / small["megabytes"]
            yield Row(
                "memory", f"{4 * size / 1e6:.0f} MB of CSV over {size / 1e6:.0f} MB ({layout})", ratio,
                "x the memory", "<= 1.5", ratio <= 1.5,
                {
                    "megabytes": [small["megabytes"], large["megabytes"]],
                    "rows": [small["rows"], large["rows"]],
                    "bytes_a_row_more": 1e6 * more / (large["rows"] - small["rows"]),
                },
            )  # fmt: skip


def output_of(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    print_memory(sys.argv[1], Path(sys.argv[2]))
