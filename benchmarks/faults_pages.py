"""The pages about findings: what each means, a sick and a healthy training, and what its repair won back.

    python benchmarks/faults_pages.py --work FOLDER     # after `faults.py run` and `faults.py repair` in that folder
    python benchmarks/faults_pages.py --work FOLDER --only over-fitting     # that page alone

What a folder does not have, a healthy training for a picture or the repairs, stays as it is on the page.

Writes `docs/findings/*.md` and their pictures.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from faults import fault_of, findings
from faults_run import cases

from thalweg.diagnosis.catalog import ACTIONS, KINDS, Rank
from thalweg.diagnosis.finding import Finding

mpl.use("Agg")
import matplotlib.pyplot as plt

PAGES = Path(__file__).parents[1] / "docs" / "findings"
SICK, HEALTHY = "#c2410c", "#2563eb"
BY_SITE = {
    "vanishing-gradient": "flow", "exploding-gradient": "flow", "initialization-too-large": "std",
    "initialization-too-small": "std", "symmetric-initialization": "std", "dead-units": "dead",
    "saturated-activations": "saturated", "attention-collapse": "entropy",
}  # fmt: skip
AXES = {
    "flow": "gradient at each activation, first step",
    "std": "deviation of activations, first step",
    "dead": "share of dead units",
    "saturated": "share saturated",
    "entropy": "attention entropy / largest",
}
REPAIRED = "In "  # how the line begins that says what repairs win back
Result = dict[str, Any]


def chosen(results: list[Result], name: str) -> tuple[Result, Finding] | None:
    """Return the planted training that shows a finding best: named by it, of the strongest evidence."""
    found = []
    for result in results:
        fault = fault_of(result)
        if fault is None or fault.name != name:
            continue
        found += [(one.strength, result["key"], result, one) for one in findings(result) if one.name == name]
    return max(found, key=lambda one: one[:2])[2:] if found else None


def draw(sick: Result, well: Result, name: str, path: Path) -> None:
    """Draw both losses, and the evidence by layer where there is one."""
    kind = BY_SITE.get(name)
    has_sites = all(one["sites"] and any(kind in site for site in one["sites"][-1]) for one in (sick, well))
    figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.5), dpi=80, layout="constrained")
    for result, color, label in ((well, HEALTHY, "healthy"), (sick, SICK, "with the fault")):
        losses = result["losses"]
        width = max(1, len(losses) // 40)
        smooth = [sum(losses[i : i + width]) / len(losses[i : i + width]) for i in range(0, len(losses), width)]
        axes[0].plot([(i + 0.5) / max(1, len(smooth)) for i in range(len(smooth))], smooth, color=color, label=label)
        if has_sites and kind is not None:
            sites = result["sites"][0 if kind in ("flow", "std") else -1]
            values = [site[kind] for site in sites if site.get(kind) is not None]
            axes[1].plot([i / max(1, len(values) - 1) for i in range(len(values))], values, color=color, marker=".")
        else:
            valid = [value for value in result["trends"].get("valid_losses") or [] if value is not None]
            axes[1].plot([(i + 1) / len(valid) for i in range(len(valid))], valid, color=color, marker=".")
    axes[0].set(xlabel="part of the training", title="training loss")
    axes[0].legend(frameon=False, fontsize=8)
    if has_sites and kind is not None:
        axes[1].set(xlabel="from the first layer to the last", title=AXES[kind])
    else:
        axes[1].set(xlabel="part of the training", title="validation loss")
    for axis, limit in ((axes[0], 30.0), (axes[1], 30.0)):
        values = [v for line in axis.get_lines() for v in line.get_ydata() if v is not None and v > 0]
        if values and max(values) > limit * sorted(values)[len(values) // 10]:
            axis.set_yscale("log")
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def page(name: str, shown: tuple[Result, Finding] | None, rows: list[dict[str, Any]]) -> str:
    """Return a page's text."""
    kind = KINDS[name]
    lines = [f"# {kind.title}", "", f"`{name}`", "", kind.meaning, ""]
    if shown is not None:
        sick, one = shown
        fault = fault_of(sick)
        assert fault is not None
        lines += [
            f"![A training with the fault and one without](pictures/{name}.png)",
            "",
            f"The example: a {sick['facts']['model']} (setting `{sick['setting']}`, planted as `{fault.key}`).",
            "",
            "| | |",
            "| --- | --- |",
            f"| severity | {one.severity} |",
            f"| evidence | {one.evidence.replace('|', '/')} |",
            f"| compared with | {', '.join(f'{key} {value:.3g}' for key, value in one.thresholds.items())} |",
            f"| repair | {one.repair.sentence} |",
        ]
        if one.repair.action:
            lines.append(f"| in code | {ACTIONS[one.repair.action]} |")
        lines.append("")
    else:
        lines += ["There is no picture: the suite plants no such fault, or it does not show in a loss.", ""]
    if not rows and (PAGES / f"{name}.md").is_file():  # none in this folder: what is told already stays
        told = (PAGES / f"{name}.md").read_text(encoding="utf-8").splitlines()
        lines += [part for line in told if line.startswith(REPAIRED) for part in (line, "")]
    if rows:
        good = sum(row["recovered"] >= 0.8 for row in rows)
        lines += [
            f"{REPAIRED}{len(rows)} trainings with this fault whose validation loss it raised by more than 5 %, the "
            f"repair of the finding won back at least 80 % of that in {good}.",
            "",
        ]
    follow = [other for other in KINDS if other in kind.explains or kind.rank < KINDS[other].rank < Rank.FACT]
    if follow:
        lines += [
            "Where it is found, these are told with it, since they follow from it: "
            + ", ".join(f"[{other}]({other}.md)" for other in follow)
            + ".",
            "",
        ]
    lines += [f"Source: {kind.source}.", ""]
    return "\n".join(lines)


def main() -> None:
    """Write all pages and the list of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=tuple(KINDS), default=tuple(KINDS), help="pages, besides the list")
    asked = parser.parse_args()
    (PAGES / "pictures").mkdir(parents=True, exist_ok=True)
    by_case: dict[str, Result] = {}
    for case in cases(healthy=4):
        path = asked.work / f"{case.key}.json"
        if path.is_file():
            by_case[case.key] = json.loads(path.read_text(encoding="utf-8"))
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(asked.work.glob("repairs*.json"))]
    repairs = [row for one in stored for row in one["repairs"]]
    listed = ["# Findings", "", "*What does each finding of `thalweg diagnose` mean?*", "",
              "Causes stand before what follows from them. Pictures and figures come from `benchmarks/faults.py`.", "",
              "| finding | what it means |", "| --- | --- |"]  # fmt: skip
    for name in asked.only:
        shown = chosen(list(by_case.values()), name)
        if shown is not None:
            picture, well = PAGES / "pictures" / f"{name}.png", by_case.get(f"{shown[0]['setting']}.healthy.0")
            if well is not None or not picture.is_file():  # without it a picture that is there stays
                draw(shown[0], well or shown[0], name, picture)
        rows = [row for row in repairs if row["name"] == name]
        (PAGES / f"{name}.md").write_text(page(name, shown, rows), encoding="utf-8")
    listed += [f"| [{name}]({name}.md) | {kind.meaning} |" for name, kind in KINDS.items()]
    (PAGES / "index.md").write_text("\n".join([*listed, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
