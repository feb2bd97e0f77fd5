"""Memory of a model that learns from a stream of millions of rows: flat once its table is full.

    python benchmarks/online_memory.py --rows 2000000

Rows are written to `thalweg train - --online` in a process of its own: a text whose words follow Zipf's law, so that
new ones never cease, two categories, two numbers with drift, and one of 20 labels, of which the last ones come late.
Every `--every` rows the memory of the process is read from /proc (Linux). The exit code is 1 where it is not flat:
where a sample of the second half differs from their mean by more than 5 %.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TOLERANCE = 0.05
NUM_LABELS = 20
BLOCK = 1000  # rows that are drawn at once
WORDS = 6


def lines(num_rows: int, seed: int = 0) -> Iterator[bytes]:
    """JSON Lines; the label decides three words in ten, and half of the labels come in the second quarter."""
    rng = np.random.default_rng(seed)
    for start in range(0, num_rows, BLOCK):
        known = NUM_LABELS // 2 + int(min(1.0, max(0.0, 4 * start / num_rows - 1)) * (NUM_LABELS - NUM_LABELS // 2))
        labels = rng.integers(0, known, BLOCK)
        words = np.minimum(rng.zipf(1.15, (BLOCK, WORDS)), 10**12)
        own = rng.random((BLOCK, WORDS)) < 0.3
        words[own] = (words % 50)[own] + 10**13 + 50 * np.repeat(labels, WORDS).reshape(BLOCK, WORDS)[own]
        numbers = rng.normal(labels[:, None] / 10 + start / num_rows, 1.0, (BLOCK, 2))
        kinds = rng.zipf(1.5, (BLOCK, 2))
        for row in range(min(BLOCK, num_rows - start)):
            values = {
                "text": " ".join(f"w{word:x}" for word in words[row].tolist()),
                "city": f"c{kinds[row, 0]}",
                "user": f"u{kinds[row, 1]}",
                "x": round(float(numbers[row, 0]), 3),
                "y": round(float(numbers[row, 1]), 3),
                "label": f"label {labels[row]}",
            }
            yield json.dumps(values).encode() + b"\n"


def memory(process: int) -> tuple[float, float]:
    """Memory of a process as it is, and its peak, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))}
    return int(found["VmRSS"]) / 1024, int(found["VmHWM"]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory of a model that learns from a stream of millions of rows.")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--every", type=int, default=100_000, help="rows between two samples")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    arguments = parser.parse_args()
    score = ["-"]
    samples = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "thalweg", "train", "-", "--online", "--out", folder]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin is not None
        assert process.stderr is not None

        def listen() -> None:
            for line in process.stderr or ():
                cells = line.split()
                if len(cells) == 8 and cells[0].replace(b",", b"").isdigit():
                    score[0] = cells[1].decode()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        print(f"{'rows':>10} {'MB':>8} {'peak MB':>8} {'rows/s':>8} {'accuracy':>9} {'saves':>6}")
        started = before = time.perf_counter()
        for number, line in enumerate(lines(arguments.rows), start=1):
            process.stdin.write(line)
            if number % arguments.every and number != arguments.rows:
                continue
            process.stdin.flush()
            now = time.perf_counter()
            resident, peak = memory(process.pid)
            saves = max((int(path.name[5:]) for path in Path(folder).glob("stream/step-*")), default=0)
            speed = arguments.every / (now - before)
            samples.append({"rows": number, "mb": resident, "peak": peak, "speed": speed, "saves": saves})
            print(f"{number:>10,} {resident:>8.1f} {peak:>8.1f} {speed:>8,.0f} {score[0]:>9} {saves:>6}", flush=True)
            before = now
        process.stdin.close()
        code = process.wait()
        listener.join()
        seconds = time.perf_counter() - started
    late = [sample["mb"] for sample in samples if 2 * sample["rows"] > arguments.rows]
    mean = sum(late) / len(late)
    spread = max(abs(value - mean) for value in late) / mean
    print(
        f"{arguments.rows:,} rows in {seconds:.0f} s, accuracy {score[0]}; second half: {mean:.1f} MB +- {spread:.1%}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": seconds, "score": score[0], "samples": samples}, indent=1))
    return int(bool(code) or spread > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
