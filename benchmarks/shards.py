"""Data that are read in blocks: time to the first step, memory and rows a second, as the files grow to 5 GB.

OMP_NUM_THREADS=1 python benchmarks/shards.py [--megabytes 500 1000 2000 5000] [--kinds jsonl text] [--epoch 100]

The files are generated in a temporary folder (eight shards of each size), and deleted afterwards. `--epoch` is the size
in megabytes of the data of which a whole epoch is read, by one process and by two, to see each row in one batch of one
of them. Seconds are those of the processor where they say so, since other work on the machine does not change these.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from table import Row, write_json

HERE = Path(__file__).parent
SHARDS = 8
COPY = b"@@@@@"  # stands where the number of a copy of the same rows goes, so that no two rows are alike
OPTIONS = {"streaming": "yes", "optimizer": "adamw", "lr": 0.01, "steps": 100_000, "dropout": 0.0}
KINDS = {
    "jsonl": {**OPTIONS, "task": "classify", "model": "linear", "batch_size": 256},
    "text": {**OPTIONS, "task": "language", "width": 16, "hidden": 16, "batch_size": 256},
}
SECONDS = 15.0  # that batches are made for, at most
FLAT = 1.15  # how much more memory the largest data may take than the smallest


def main() -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[500, 1000, 2000, 5000])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--epoch", type=int, default=100)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "shards.json")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(*given.worker)
        return
    rows: list[Row] = []

    def tell(suite: str, name: str, value: float, unit: str, target: str = "", met: bool | None = None) -> None:
        rows.append(Row(suite, name, value, unit, target, met))
        print(rows[-1].line(), flush=True)

    for kind in given.kinds:
        peaks = []
        for megabytes in given.megabytes:
            with tempfile.TemporaryDirectory() as folder:
                generate(Path(folder) / "data", kind, megabytes)
                name = f"{kind} {megabytes} MB"
                for num in (1, 2):
                    ranks = run(folder, kind, num, "some")
                    if num == 1:
                        tell(name, "index", megabytes / ranks[0]["index"], "MB/s")
                        tell(name, "index, kept", ranks[0]["kept"], "s")
                    tell(name, f"first step, {num}", max(one["first"] for one in ranks), "s")
                    tell(name, f"first step, {num}", max(one["first_cpu"] for one in ranks), "s of its processor")
                    each = sum(one["rows"] / one["cpu"] for one in ranks) / num
                    tell(name, f"rows of each process, {num}", each, "a second of its processor")
                    peaks.append(max(one["peak"] for one in ranks))
                    tell(name, f"peak memory of a process, {num}", peaks[-1], "MB")
        for num in (0, 1):
            ratio = max(peaks[num::2]) / peaks[num]
            tell(kind, f"memory, largest/smallest, {num + 1}", ratio, "", f"<= {FLAT}", ratio <= FLAT)
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "data", "jsonl", given.epoch)
        run(folder, "jsonl", 1, "some")  # makes the index
        alone, *shares = run(folder, "jsonl", 1, "all") + run(folder, "jsonl", 2, "all")
        for name, ranks in (("one process", [alone]), ("two processes", shares)):
            keys = np.concatenate([np.load(one["keys"]) for one in ranks])
            twice = len(keys) - len(np.unique(keys))
            missing = alone["there"] - len(np.unique(keys))
            tell(f"jsonl {given.epoch} MB", f"{name}: rows missing", missing, "", "0", missing == 0)
            tell(f"jsonl {given.epoch} MB", f"{name}: rows that come twice", twice, "", "0", twice == 0)
    write_json(given.out, rows)


def generate(folder: Path, kind: str, megabytes: int) -> None:
    """Write shards of rows that all differ."""
    folder.mkdir()
    generator = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 10))) for _ in range(50_000)]
    weights = [1.0 / (place + 3) for place in range(len(words))]
    drawn, base, size = generator.choices(words, weights, k=1_000_000), [], 0
    topics = [words[1000 + 200 * place : 1200 + 200 * place] for place in range(4)]
    while size < 10_000_000:
        start, topic = generator.randrange(len(drawn) - 50), generator.randrange(4)
        text = [*drawn[start : start + generator.randint(5, 40)], *generator.choices(topics[topic], k=4)]
        line = f"{COPY.decode()}n{len(base)} {' '.join(text)}"
        base.append(json.dumps({"text": line, "label": f"topic {topic}"}) if kind == "jsonl" else line)
        size += len(base[-1]) + 1
    content, copy = ("\n".join(base) + "\n").encode(), 0
    for shard in range(SHARDS):
        path = folder / f"part-{shard:03}.{'jsonl' if kind == 'jsonl' else 'txt'}"
        with path.open("wb") as file:
            rest = megabytes * 1_000_000 // SHARDS
            while rest > 1000:
                part = content.replace(COPY, b"c%04d" % copy)
                rest -= file.write(part if rest >= len(part) else part[: part.rfind(b"\n", 0, rest) + 1])
                copy += 1


def run(folder: str, kind: str, num: int, what: str) -> list[dict]:
    """Return what each of `num` processes has measured."""
    worker = [__file__, "--worker", folder, kind, what, str(num)]
    launcher = [sys.executable]
    if num > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num)]
    subprocess.run([*launcher, *worker], check=True, cwd=folder)
    return [json.loads((Path(folder) / f"rank-{rank}-{num}.json").read_text()) for rank in range(num)]


def work(folder: str, kind: str, what: str, num: str) -> None:
    """Be one of the processes."""
    began = time.perf_counter()
    from thalweg import distributed
    from thalweg.data import open_source
    from thalweg.data.blocks.shards import Shards
    from thalweg.training.recipe.recipe import Options
    from thalweg.training.session.loop import train
    from thalweg.training.session.prepare import Request, prepare
    from thalweg.training.steps.launch import joined

    place = Path(folder)
    with joined():
        found: dict = {"index": 1.0, "kept": 1.0}
        if num == "1":
            source = open_source(place / "data")
            for name in ("index", "kept"):
                start = time.perf_counter()
                shards = Shards(source)
                found[name] = time.perf_counter() - start
            del shards
            began = time.perf_counter() - found["kept"]
        request = Request(Options(KINDS[kind], source=str(place / "data"), name=f"{what}-{num}"), place / "runs")
        with prepare(request, str) as session:
            for entry in train(session):
                if entry["event"] == "step":
                    break
            found |= {"first": time.perf_counter() - began, "first_cpu": time.process_time()}
            order, rows, keys = session.feed._order, 0, []
            start, start_cpu = time.perf_counter(), time.process_time()
            for step in range(order.num_batches):
                called = order.batch(0, step)
                examples, places = session.feed.examples.rows(called)
                real = places[: len(called)]  # of an empty share there is one that does not count
                rows += len(real)
                if what == "all":
                    keys.append(np.asarray(examples.columns["keys"])[real])
                elif time.perf_counter() - start > SECONDS:
                    break
            found |= {"cpu": time.process_time() - start_cpu, "rows": rows, "peak": peak()}
            if what == "all":
                stream = session.prepared.stream
                found |= {"there": len(stream), "keys": str(place / f"keys-{distributed.rank()}-{num}.npy")}
                np.save(found["keys"], np.concatenate(keys))
        (place / f"rank-{distributed.rank()}-{num}.json").write_text(json.dumps(found))


def peak() -> float:
    """Return the most memory that this process has had so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


if __name__ == "__main__":
    main()
