"""How many requests a second `thalweg serve` answers on one core, and how long each takes.

    python benchmarks/serving.py                        # a minute: the table, and benchmarks/results/serving.json
    python benchmarks/serving.py --seconds 20 --connections 64

The server runs on core 0 with one thread, the clients on the others: so many connections, each of which asks again as
soon as it has its answer, or (`--rate`) at fixed times whatever the answers do.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import Row, write_json

TARGET = 200.0  # requests a second of short texts, on the bag
TEXTS = [
    f"Return the {what} of the {of}." for what in ("sum", "name", "path", "list") for of in ("file", "two", "call")
]
MODELS = {"bag": [], "lstm": ["--epochs", "1"]}


def train(model: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "thalweg", "train", "docstrings", "--model", model, *MODELS[model], "--quiet"]
    subprocess.run([*command, "--name", model, "--out", str(folder)], check=True)
    return folder / model


def served(run: Path) -> tuple[subprocess.Popen[str], int]:
    """Return a server on core 0, and its port."""
    pin = ["taskset", "-c", "0"] if shutil.which("taskset") else []
    command = [*pin, sys.executable, "-m", "thalweg", "serve", str(run), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    said = server.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
    if found is None:
        raise SystemExit(f"The server has not started: {said}")
    return server, int(found[1])


def request(text: str) -> bytes:
    body = json.dumps({"input": text, "top": 1}).encode()
    return b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> float:
    """Return the seconds that an answer took."""
    begin = time.perf_counter()
    writer.write(request(text))
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    body = await reader.readexactly(int(length[1]))
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"Refused: {body[:200]!r}")
    return time.perf_counter() - begin


async def loaded(port: int, connections: int, seconds: float, rate: float) -> tuple[list[float], float]:
    """Return the seconds of every answer under load, and the seconds of all."""
    times: list[float] = []
    begin = time.perf_counter()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in itertools.count():
            if rate:
                await asyncio.sleep(max(0.0, begin + (turn * connections + number) / rate - time.perf_counter()))
            if time.perf_counter() - begin > seconds:
                break
            times.append(await ask(reader, writer, TEXTS[(turn + number) % len(TEXTS)]))
        writer.close()

    await asyncio.gather(*map(client, range(connections)))
    return times, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=TARGET, help="requests a second of the second measurement")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "serving.json")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {0})
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in MODELS:
            server, port = served(train(model, Path(scratch)))
            asyncio.run(loaded(port, 4, 1.0, 0.0))  # to warm up
            for rate in (0.0, options.rate):
                times, taken = asyncio.run(loaded(port, options.connections, options.seconds, rate))
                named = f"{model}, {options.connections} connections" + (f", {rate:g}/s asked" if rate else "")
                found = len(times) / taken
                cuts = statistics.quantiles(times, n=100)
                more = {"p50": cuts[49], "p99": cuts[98], "requests": len(times)}
                has_target = model == "bag" and not rate
                target, met = (f">= {TARGET:g}", found >= TARGET) if has_target else ("", None)
                rows.append(Row("serving", f"{named}: requests", found, "1/s", target, met, more))
                rows.append(Row("serving", f"{named}: median", 1e3 * cuts[49], "ms", "", None, {}))
                rows.append(Row("serving", f"{named}: 99th percentile", 1e3 * cuts[98], "ms", "", None, {}))
                for row in rows[-3:]:
                    print(row.line(), flush=True)
            server.send_signal(signal.SIGTERM)
            rows.append(
                Row("serving", f"{model}: exit code", float(server.wait(30)), "", "0", server.returncode == 0, {})
            )
            print(rows[-1].line(), flush=True)
    write_json(options.out, rows)


if __name__ == "__main__":
    main()
