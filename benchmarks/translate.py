"""Translation with continuous outputs next to a softmax: same body, same batches, same number of tokens.

    python benchmarks/translate.py --data numbers --steps 600 --width 128 --hidden 256 --layers 2 --tokens 2048
    python benchmarks/translate.py --data ../shared/data/tatoeba_pairs --device cuda --bfloat16 --jobs 4
    python benchmarks/translate.py --data ../shared/data/tatoeba_pairs --tokenizer word --vocabulary-size 32000 --timing

Each run of one family and one seed is a process of its own and writes its figures at once, so a table can be stopped
and gone on with: what is there is not computed again. `--timing` measures a step's time and memory instead, one family
after the other with nothing beside it.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait must not count as CPU time

import argparse
import concurrent.futures
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import translate_data
import translate_run
from table import machine

RESULTS = Path(__file__).parent / "results" / "translate.json"
TIMING = "timing"  # in the place of a seed
FAMILIES = (
    "softmax", "analytic:trained", "contrastive:trained", "sampled:trained", "analytic:random", "sampled:random",
    "contrastive:random", "vmf:random", "vmf-log:random", "vmf-reg1:random", "vmf-reg2:random", "cosine:random",
    "l2:random", "power-spherical:random", "syn-margin:random", "margin:random", "triplet:random", "cosine:hypercube",
)  # fmt: skip
COLUMNS = (
    ("greedy_score", "score"), ("greedy_chrf", "chrF"), ("greedy_exact_match", "exact"), ("beam_score", "beam"),
    ("gain", "gain"), ("beam_chrf", "chrF"),
    ("perplexity", "ppl"), ("token_accuracy", "acc"), ("seconds_to_best", "s to best"), ("megabytes", "MB"),
    ("rare", "F1 1-9"),
)  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--data", default="numbers", help="a built-in set, or a folder with *.{train,dev,test}.tsv[.xz]"
    )
    parser.add_argument("--tokenizer", default="bpe", choices=("bpe", "word"))
    parser.add_argument("--vocabulary-size", type=int, default=8000)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), help="head or head:targets")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no run after so many; 0: no limit")
    parser.add_argument("--cache", type=Path, help="folder of encoded data and single runs")
    parser.add_argument("--out", type=Path, help=f"where the figures are written; {RESULTS.name} by itself")
    parser.add_argument("--timing", action="store_true", help="time and memory of a step only")
    parser.add_argument("--timing-steps", type=int, default=20)
    parser.add_argument("--one", nargs=2, metavar=("FAMILY", "SEED"), help=argparse.SUPPRESS)
    for field in dataclasses.fields(translate_run.Options):
        if field.name == "graphs":
            parser.add_argument("--no-graphs", action="store_true", help="take GPU steps one kernel at a time")
        elif field.name == "bfloat16":
            parser.add_argument("--bfloat16", action="store_true", help="the forward pass in bfloat16")
        else:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    return parser.parse_args()


def options_of(arguments: argparse.Namespace) -> translate_run.Options:
    """Return the options of a run."""
    values = {field.name: getattr(arguments, field.name, True) for field in dataclasses.fields(translate_run.Options)}
    return translate_run.Options(**{**values, "graphs": not arguments.no_graphs})


def name_of(family: str, seed: int | str) -> str:
    """Return the name of a run's file."""
    return f"{family.replace(':', '-').replace('/', '-')}.{seed}.json"


def compute(arguments: argparse.Namespace, cache: Path, runs: Path) -> list[dict[str, Any]]:
    """Run what is not there yet, each in a process, and return all figures."""
    waiting = [
        (family, seed)
        for seed in arguments.seeds
        for family in arguments.families
        if not (runs / name_of(family, seed)).exists()
    ]
    begun = time.monotonic()

    def one(family: str, seed: int) -> None:
        if arguments.seconds and time.monotonic() - begun > arguments.seconds:
            print(f"{family} seed {seed}: no time left", flush=True)
            return
        command = [sys.executable, *sys.argv, "--one", family, str(seed), "--cache", str(cache)]
        done = subprocess.run(command, check=False)
        if done.returncode:
            print(f"{family} seed {seed} failed with code {done.returncode}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda pair: one(*pair), waiting))
    found = [runs / name_of(family, seed) for family in arguments.families for seed in arguments.seeds]
    return [json.loads(path.read_text()) for path in found if path.exists()]


def compute_timing(arguments: argparse.Namespace, cache: Path, runs: Path) -> list[dict[str, Any]]:
    """Time a step of every family, each in a process, one after the other, and print what was found."""
    rows: list[dict[str, Any]] = []
    for family in arguments.families:
        command = [sys.executable, *sys.argv, "--one", family, TIMING, "--cache", str(cache)]
        if subprocess.run(command, check=False).returncode:
            print(f"{family} failed", flush=True)
            continue
        row = json.loads((runs / name_of(family, TIMING)).read_text())
        rows.append(row)
        ratios = row["milliseconds"] / rows[0]["milliseconds"], row["megabytes"] / max(1e-9, rows[0]["megabytes"])
        print(
            f"{family:<24}{row['milliseconds']:>9.1f} ms {ratios[0]:>6.2f} x "
            f"{row['megabytes']:>8.0f} MB {ratios[1]:>6.2f} x",
            flush=True,
        )
    return rows


def show(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print a line for each family, means over seeds, and return the lines."""
    print(f"{'family':<24}{'seeds':>6}" + "".join(f"{title:>10}" for _, title in COLUMNS))
    rows = []
    for family in dict.fromkeys(result["family"] for result in results):
        own = [result for result in results if result["family"] == family]
        for result in own:
            result["gain"] = result["beam_score"] - result["greedy_score"]
            result["rare"] = statistics.mean([result["greedy_f1"]["1-2"], result["greedy_f1"]["3-9"]])
        row: dict[str, Any] = {"family": family, "seeds": len(own)}
        for key, _ in COLUMNS:
            values = [result[key] for result in own]
            row[key] = statistics.mean(values)
            row[f"{key}_deviation"] = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append(row)
        print(f"{family:<24}{len(own):>6}" + "".join(f"{row[key]:>10.3g}" for key, _ in COLUMNS), flush=True)
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Return what became of the targets."""
    by_family = {row["family"]: row for row in rows}
    others = [row for row in rows if row["family"] != "softmax"]
    if "softmax" not in by_family or not others:
        return []
    softmax, best = by_family["softmax"], max(others, key=lambda row: row["greedy_score"])
    difference = best["greedy_score"] - softmax["greedy_score"]
    ratio = best["seconds_to_best"] / softmax["seconds_to_best"]
    return [
        f"Best continuous family: {best['family']}, {difference:+.2f} BLEU to softmax (target: at least -0.5), "
        f"beam gain {best['gain']:+.2f} (target: above 0), {ratio:.2f} of its training time (target at V = 32k: 0.6)."
    ]


def main() -> None:
    arguments = parse()
    options = options_of(arguments)
    out = arguments.out or RESULTS
    kind = f"{Path(arguments.data).name}-{arguments.tokenizer}-{arguments.vocabulary_size}"
    cache = arguments.cache or out.with_suffix("") / kind
    runs = cache / f"runs-{options.steps}-{options.tokens}-{options.width}x{options.layers}"
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // max(1, arguments.jobs)))
    if arguments.one:
        family, seed = arguments.one
        if seed == TIMING:
            result = translate_run.timing(cache, family, options, arguments.timing_steps)
        else:
            result = translate_run.run(cache, family, int(seed), options, lambda text: print(text, flush=True))
        runs.mkdir(parents=True, exist_ok=True)
        (runs / name_of(family, seed)).write_text(json.dumps(result, indent=1))
        return
    translate_data.encode(arguments.data, arguments.tokenizer, arguments.vocabulary_size, cache)
    content: dict[str, Any] = {
        "machine": machine(),
        "device": device_name(options.device),
        "data": kind,
        "options": dataclasses.asdict(options),
    }
    if arguments.timing:
        content["timing"] = compute_timing(arguments, cache, runs)
    else:
        results = compute(arguments, cache, runs)
        content["rows"] = show(results)
        content["verdicts"] = verdicts(content["rows"])
        content["runs"] = results
        print("\n".join(content["verdicts"]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1), encoding="utf-8")


def device_name(device: str) -> str:
    """Return what computes."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


if __name__ == "__main__":
    main()
