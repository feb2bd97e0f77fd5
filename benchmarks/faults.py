"""Planted faults: which are found, which healthy trainings are left alone, and whether the repairs help.

    python benchmarks/faults.py run --work FOLDER [--workers 2] [--group A]     # trains; minutes, kept in the folder
    python benchmarks/faults.py score --work FOLDER [--group B]                 # recall, precision, and peers' rules
    python benchmarks/faults.py repair --work FOLDER [--group B]                # applies each suggested repair

Every fault of `faults_planted.py` is planted into each setting of `faults_settings.py` that it fits. Limits were set on
group A; B has other data, sizes and seeds; "sealed" (two kinds of faults and one family) was scored once.
A finding counts as right where it names the planted fault, or one that was declared as equally true beforehand.
"""

import argparse
import json
import multiprocessing
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from faults_peers import PEERS, said
from faults_planted import FAULTS, Fault
from faults_run import Case, cases, run, stored

from thalweg.diagnosis.finding import Finding
from thalweg.diagnosis.symptoms.rules import findings_of

BY_KEY: dict[tuple[str, str], Fault] = {(fault.key, family): fault for fault in FAULTS for family in fault.families}
COST = 0.05  # of the healthy loss: a fault that costs less has nothing to win back


def findings(result: dict[str, Any]) -> list[Finding]:
    """Return what the rules say of a stored training."""
    return findings_of(result["facts"], result["trends"], result["probes"])


def fault_of(result: dict[str, Any]) -> Fault | None:
    """Return the fault that was planted into a stored training."""
    return None if result["fault"] is None else BY_KEY[result["fault"], result["family"]]


def load(folder: Path, group: str, healthy: int) -> list[dict[str, Any]]:
    """Return the stored trainings of a group."""
    paths = [folder / f"{case.key}.json" for case in cases(healthy=healthy) if group in (case.group, "all")]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def score(results: Iterable[dict[str, Any]], *, show: bool = False) -> dict[str, Any]:
    """Return recall and precision, in all and by fault, and what was said of healthy trainings."""
    found, planted, right, wrong, first = 0, 0, 0, 0, 0
    healthy, alarms, errors = 0, 0, 0
    missed: dict[str, list[str]] = defaultdict(list)
    false: Counter[str] = Counter()
    for result in results:
        fault, names = fault_of(result), findings(result)
        if fault is None:
            healthy += 1
            alarms += bool(names)
            errors += any(one.severity == "error" for one in names)
            wrong += len(names)
            for one in names:
                false[one.name] += 1
                if show:
                    print(f"  healthy {result['key']}: {one.severity} {one.name}: {one.evidence}")
            continue
        planted += 1
        true = {fault.name, *fault.also}
        told = {one.name for one in names} | {name for one in names for name in one.also}
        found += fault.name in told
        first += bool(names) and names[0].name in true
        if fault.name not in told:
            missed[f"{fault.name} ({fault.key})"].append(result["setting"])
            if show:
                print(f"  missed {result['key']} ({fault.name}): {[one.name for one in names]}")
        for one in names:
            right += one.name in true
            if one.name not in true:
                wrong += 1
                false[one.name] += 1
                if show:
                    print(f"  false {result['key']} ({fault.name}): {one.severity} {one.name}: {one.evidence}")
    return {
        "planted": planted, "recall": found / max(planted, 1), "precision": right / max(right + wrong, 1),
        "named_first": first / max(planted, 1), "healthy": healthy, "healthy_with_findings": alarms,
        "healthy_with_errors": errors, "missed": dict(missed), "false": dict(false.most_common()),
    }  # fmt: skip


def score_peers(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return recall and precision of each published rule set, over all faults and over those it has a rule for."""
    rows = []
    for name, rules in PEERS.items():
        found = planted = own = own_found = right = wrong = alarms = 0
        for result in results:
            fault, told = fault_of(result), said(rules, result)
            if fault is None:
                alarms += bool(told)
                wrong += len(told)
                continue
            true = {fault.name, *fault.also}
            planted, found = planted + 1, found + (fault.name in told)
            if fault.name in rules:
                own, own_found = own + 1, own_found + (fault.name in told)
            right += sum(one in true for one in told)
            wrong += sum(one not in true for one in told)
        rows.append({
            "rules": name, "recall": found / max(planted, 1), "precision": right / max(right + wrong, 1),
            "recall_of_its_own_kinds": own_found / max(own, 1), "healthy_with_findings": alarms,
        })  # fmt: skip
    return rows


def repaired(case: Case, folder: Path) -> dict[str, Any] | None:
    """Apply the repair of the finding that names the fault (else of the first one), and say what it wins back."""
    result = stored(case, folder)
    fault = case.fault
    assert fault is not None
    names = findings(result)
    if not names or not fault.costs:
        return None
    true = [one for one in names if one.name == fault.name or fault.name in one.also]
    chosen = (true or names)[0]
    healthy = stored(Case(case.setting, dataclasses_fault(fault), case.seed), folder / "healthy", probes=False)
    sick, well = result["valid_loss"], healthy["valid_loss"]
    if well is None:
        return None
    if sick is None:
        sick = result["trends"].get("valid_first") or 3.0 * well
    if sick - well < COST * abs(well):
        return None
    path = folder / "repaired" / f"{case.key}.json"
    what = {"options": dict(chosen.repair.options), "action": chosen.repair.action}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["what"] == what:
        after = json.loads(path.read_text(encoding="utf-8"))["after"]
    else:
        undone = bool(chosen.repair.action)
        after = run(case, what["options"], undone=undone, probes=False)["valid_loss"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"what": what, "after": after}), encoding="utf-8")
    recovered = (sick - after) / (sick - well) if after is not None else 0.0
    return {"key": case.key, "name": fault.name, "by": chosen.name, "sick": sick, "well": well, "after": after,
            "recovered": recovered, "repair": what}  # fmt: skip


def dataclasses_fault(fault: Fault) -> Fault | None:
    """Return what a fault's own setting is without the fault: the same number of examples, where it has its own."""
    del fault
    return None


Job = tuple[str, int, Path]


def _case(job: Job) -> Case:
    """Return the case of a key: a case has functions, which do not travel to another process."""
    return next(case for case in cases(healthy=job[1]) if case.key == job[0])


def _store(job: Job) -> str:
    try:
        stored(_case(job), job[2])
    except Exception as error:  # (one that fails must not end the others; it is printed)
        return f"{job[0]}: {type(error).__name__}: {error}"
    return ""


def _repair(job: Job) -> dict[str, Any] | str | None:
    try:
        return repaired(_case(job), job[2])
    except Exception as error:
        return f"{job[0]}: {type(error).__name__}: {error}"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "score", "repair"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--group", default="all", choices=("A", "B", "sealed", "all"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--healthy", type=int, default=4)
    parser.add_argument("--only", default="", help="part of the keys")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    chosen = [c for c in cases(healthy=asked.healthy) if asked.group in (c.group, "all") and asked.only in c.key]
    outcome: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(asked.workers) as pool:
        if asked.what == "run":
            for number, problem in enumerate(
                pool.imap_unordered(_store, [(c.key, asked.healthy, asked.work) for c in chosen]), 1
            ):
                if problem or number % 25 == 0:
                    print(f"{number} of {len(chosen)} {problem}", file=sys.stderr, flush=True)
        elif asked.what == "repair":
            jobs = [(c.key, asked.healthy, asked.work) for c in chosen if c.fault is not None]
            rows = [row for row in pool.imap_unordered(_repair, jobs) if row]
            broken = [row for row in rows if isinstance(row, str)]
            rows = sorted((row for row in rows if isinstance(row, dict)), key=lambda row: row["recovered"])
            for row in rows:
                if asked.show or row["recovered"] < 0.8:
                    print(f"{row['recovered']:7.2f} {row['key']:<36} {row['name']} by {row['by']}: {row['sick']:.3f} "
                          f"-> {row['after']} (healthy {row['well']:.3f}) {row['repair']}")  # fmt: skip
            for row in broken:
                print(row)
            share = sum(row["recovered"] >= 0.8 for row in rows) / max(len(rows), 1)
            print(f"{len(rows)} repairs; {share:.1%} win back at least 80 % of what the fault cost")
            outcome = {"repairs": rows, "share": share}
    if asked.what == "score":
        results = [one for one in load(asked.work, asked.group, asked.healthy) if asked.only in one["key"]]
        outcome = score(results, show=asked.show)
        print({key: value for key, value in outcome.items() if key not in {"missed", "false"}})
        print("missed", {key: len(value) for key, value in outcome["missed"].items()})
        print("false", outcome["false"])
        outcome["peers"] = score_peers(results)
        for row in outcome["peers"]:
            print(row)
    if asked.json and outcome:
        asked.json.write_text(json.dumps(outcome, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
