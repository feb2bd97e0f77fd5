"""Files of a run as a stranger may have changed them, checksums and all, and what every command makes of them.

A `Kind` is a file that a run (or a stream's model, or a comparison) has. `change` mutates one in a copy of a specimen,
makes the manifests fit again, and `ask` runs commands on the copy as the command line does: they may answer or refuse
in a sentence, and nothing else.
"""

import contextlib
import hashlib
import io
import json
import random
import shutil
import struct
import tomllib
from dataclasses import dataclass

import thalweg
from thalweg.cli.main import run as command_line

WORDS = ["river", "stone", "light", "water", "field", "cloud", "house", "table", "music", "paper"]
SMALL = {"width": 4, "hidden": 4, "heads": 2, "layers": 1, "max_length": 12, "vocabulary_size": 300, "batch_size": 16}

# Values that a reader may not expect in the place of another one.
ODD = (
    None, True, False, 0, -1, 1, 3, 7, 2**31, 2**63, 2**63 - 1, 10**12, 10**30, -(10**30), 1e308, -1e308, 1e-320, 0.5,
    float("nan"), float("inf"), "", "a", "0", "nan", "\0", "\x1b[31m", "<script>alert(1)</script>", "\ud800", "../../x",
    "/dev/zero", "x" * 100_000, [], {}, [[]], [None], ["a"], [1e308], [-1], {"a": 1}, {"": None},
)  # fmt: skip


def _texts(rng, count):
    return [" ".join(rng.choices(WORDS, k=5)) + (" fine" if k % 2 else " awful") for k in range(count)]


def write_data(folder):
    """Write a small file for each task into a folder."""
    rng = random.Random(0)
    texts = _texts(rng, 60)
    (folder / "reviews.csv").write_text(
        "text,label\n" + "".join(f"{text},{'bg'[k % 2]}\n" for k, text in enumerate(texts))
    )
    rows = [{"text": text, "labels": [["b"], ["g", "h"]][k % 2]} for k, text in enumerate(texts)]
    (folder / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = zip(texts, reversed(texts), strict=True)
    (folder / "pairs.csv").write_text(
        "first,second,score\n" + "".join(f"{a},{b},{k % 5}\n" for k, (a, b) in enumerate(pairs))
    )
    (folder / "series.csv").write_text(
        "day,x\n" + "".join(f"2024-01-{k % 28 + 1:02d},{k % 7 + k / 9:.2f}\n" for k in range(28))
    )
    long = [f"{k},{k % 7 + (k * 7919 % 11) / 10:.2f},{k % 5}" for k in range(90)]
    (folder / "long.csv").write_text("t,x,y\n" + "\n".join(long) + "\n")
    (folder / "story.txt").write_text("\n".join(texts) + "\n")
    (folder / "both.tsv").write_text("source\ttarget\n" + "".join(f"{text}\t{text.upper()}\n" for text in texts))
    blocks = []
    for text in texts:
        marked = [
            f"{i}\t{w}\t_\t{'NOUN' if w in WORDS else 'ADJ'}\t_\t_\t_\t_\t_\t_" for i, w in enumerate(text.split(), 1)
        ]
        marked[-1] = marked[-1][:-1] + "SpaceAfter=No"
        marked.append(f"{len(marked) + 1}\t.\t_\tPUNCT\t_\t_\t_\t_\t_\t_")
        blocks.append(f"# text = {text}.\n" + "\n".join(marked) + "\n")
    (folder / "words.conllu").write_text("\n".join(blocks) + "\n")


@dataclass(frozen=True)
class Specimen:
    """A run to be made: its data, its options, and what can be asked of it."""

    source: str
    options: dict
    text: str = "river stone fine"
    interrupted: bool = False


ROWS = "1 2; 3 4; 5 6; 1 2; 3 4; 5 6; 1 2; 3 4; 5 6; 1 2; 4 2; 2 3"
PROVED = {"model": "linear", "optimizer": "linear-newton", "batch_size": 0}
COMPARED = {"compare": True, "model": "bag", "optimizers": "sgd,adamw", "steps": 2, "trials": 1, "seeds": 2}
LANGUAGE = {"task": "language", "steps": 3}
SPECIMENS = {
    "bag": Specimen("reviews.csv", {"model": "bag", "steps": 4}),
    "refit": Specimen("reviews.csv", {"select": "penalty", "refit": True, **PROVED}),
    "labels": Specimen("several.jsonl", {"model": "bag", "steps": 3}),
    "padded": Specimen("reviews.csv", {"model": "transformer", "steps": 3}),
    "pairs": Specimen("pairs.csv", {"steps": 3}, "river stone\twater"),
    "scores": Specimen("pairs.csv", {"model": "lstm", "steps": 3, "tokenizer": "bpe"}, "river stone\twater"),
    "linear": Specimen("long.csv", {"task": "forecast", "time_column": "t"}, ROWS),
    "window": Specimen("series.csv", {"task": "forecast", "model": "mlp", "steps": 3, "lags": 3}, "1 2 3 4 5 6 7 8 9"),
    "tags": Specimen("words.conllu", {"steps": 3}, "river stone fine."),
    "tagger": Specimen("words.conllu", {"model": "lstm", "steps": 3}, "river stone fine."),
    "story": Specimen("story.txt", {**LANGUAGE, "tokenizer": "char"}, "river"),
    "bytes": Specimen("story.txt", {**LANGUAGE, "tokenizer": "bpe", "model": "transformer"}, "river"),
    "both": Specimen("both.tsv", {"task": "translate", "steps": 3}, "river stone"),
    "stream": Specimen("reviews.csv", {"online": True}),
    "compare-x": Specimen("reviews.csv", COMPARED),
    "begun": Specimen("reviews.csv", {"model": "transformer", "steps": 30}, interrupted=True),
    "begun-lbfgs": Specimen("reviews.csv", {"model": "bag", "optimizer": "lbfgs", "steps": 9}, interrupted=True),
    "begun-refit": Specimen("reviews.csv", {"select": "penalty", "refit": True, **PROVED}, interrupted=True),
    "begun-soap": Specimen(
        "story.txt",
        {**LANGUAGE, "steps": 9, "optimizer": "soap", "schedule": "reduce_on_plateau"},
        interrupted=True,
    ),
}


def make(name, folder):
    """Make a specimen in a folder, which holds the data; return the folder of its run."""
    specimen, place = SPECIMENS[name], folder / "runs" / name
    if {"online", "compare"} & specimen.options.keys():
        asked = commands(name, place, folder)["again"]
        assert ask(*asked)[0] == 0, asked
        return place
    options = {**SMALL, "name": name, **specimen.options}
    if not specimen.interrupted:
        run = thalweg.train(folder / specimen.source, out=folder / "runs", **options)
        for command in ("certify", "diagnose"):
            assert ask(command, place, "--seconds", "5", "--no-report", "--quiet")[0] == 0, (command, name)
        return run.folder
    from thalweg.training.recipe.recipe import Options
    from thalweg.training.session.loop import train
    from thalweg.training.session.prepare import Request, prepare

    request = Request(Options(options, source=str(folder / specimen.source)), folder / "runs")
    with prepare(request, lambda said: None) as session:
        session.evaluate_every = 1
        for entry in train(session):
            if entry["event"] == "evaluation" and entry["step"] >= 3:
                break
    return session.run.folder


# --- what a stranger changes


def change(rng, name, data):
    """Return the content of a file, changed at random in a way that fits its name."""
    if rng.random() < 0.25:
        return _bytes(rng, data)
    kind = name.rpartition(".")[2]
    try:
        if kind == "json":
            return _json(rng, data)
        if kind == "jsonl":
            lines = data.splitlines()
            place = rng.randrange(len(lines))
            lines[place] = _json(rng, lines[place])
            return b"\n".join(lines) + b"\n"
        if kind == "toml":
            return _toml(rng, data.decode())
        if kind == "safetensors":
            return _tensors(rng, data)
    except (ValueError, KeyError, IndexError):
        pass
    return _bytes(rng, data)


def _bytes(rng, data):
    data = bytearray(data)
    kind = rng.choice(["flip", "flip", "cut", "put", "swap", "zero", "empty", "deep"])
    place = rng.randrange(len(data) + 1)
    if kind == "flip":
        for _ in range(rng.choice([1, 1, 4, 30])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "put":
        data[place:place] = rng.choice([b"\xff", b"\0", b"[", b"}", b'"', b"9" * 5000, b"\n", b"nan", b"-", b"e99"])
    elif kind == "swap":
        del data[place : place + rng.choice([1, 8, 100])]
    elif kind == "zero":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == "deep":
        data[:] = rng.choice([b"[", b'{"a":', b"{"]) * 100_000
    else:
        del data[:]
    return bytes(data)


def _json(rng, data):
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        value = _elsewhere(rng, value)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.03 and text.startswith("{"):  # a key twice
        text = "{" + text[1 : text.index(",") + 1] + text[1:] if "," in text else text
    return text.encode("utf-8", "surrogatepass")


def _elsewhere(rng, value):
    """Return a tree with one place changed: another value, a key less or more, two values exchanged."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        kind = rng.random()
        if kind < 0.12:
            del value[key]
        elif kind < 0.2 and isinstance(value, list):
            value.extend([value[key]] * rng.choice([1, 3, 1000]))
        elif kind < 0.24:
            other = rng.choice(keys)
            value[key], value[other] = value[other], value[key]
        else:
            value[key] = _elsewhere(rng, value[key])
        return value
    if isinstance(value, bool):
        return rng.choice([not value, *ODD])
    if isinstance(value, int | float) and rng.random() < 0.4:
        return rng.choice([value + 1, value - 1, -value, value * 10, value * 1e6, float(value)])
    if isinstance(value, str) and value and rng.random() < 0.3:
        return rng.choice([value[:-1], value + value, value.upper(), f"{value}\n", value * 1000])
    return rng.choice(ODD)


def _toml(rng, text):
    parsed = tomllib.loads(text)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        section = rng.choice(list(parsed))
        name = rng.choice(list(parsed[section]))
        kind = rng.random()
        if kind < 0.06:
            del parsed[section][name]
        elif kind < 0.1:
            parsed[section][rng.choice(["steps", "a b", "", "optimizer"])] = 1
        else:
            parsed[section][name] = _fitting(rng, parsed[section][name])
    lines = []
    for section, values in parsed.items():
        lines += [f"[{section}]", *(f"{json.dumps(name)} = {_toml_value(value)}" for name, value in values.items())]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _fitting(rng, value):
    """Return an odd value, of the same type half the time."""
    if rng.random() < 0.5:
        return rng.choice([odd for odd in ODD if odd is not None])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(rng.choice([0, 1, 2, 3, -1, 7, 1000, 10**5, 2**31, 2**40, 2**63 - 1]))
    if isinstance(value, str):
        words = ["", "none", "auto", "linear", "transformer", "lstm", "softmax", "vmf", "random", "trained", "crf"]
        return rng.choice(
            [*words, "adamw", "lbfgs", "newton", "classify", "tag", "cuda", "meta", "x.y", "/dev/zero", "."]
        )
    return rng.choice([[], ["lower"], ["nfc", "x"], {}, {"a": 1}])


def _toml_value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return '""' if value is None else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def _tensors(rng, data):
    """Change the header, or numbers, of a safetensors file."""
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), bytearray(data[8 + size :])
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    entry = header[name]
    kind = rng.choice(["value", "value", "shape", "huge", "dtype", "name", "gone", "offsets", "length", "any", "meta"])
    if kind == "value":
        begin, end = entry["data_offsets"]
        for _ in range(rng.choice([1, 10])):
            place = rng.randrange(begin, max(begin + 1, end - 8)) // 8 * 8
            odd = [float("nan"), float("inf"), -1.0, 1e308, 0.0]
            new = struct.pack(*rng.choice([("<d", rng.choice(odd)), ("<q", rng.choice([-1, 2**62, 2**40, 10**6]))]))
            body[place : place + 8] = new[: len(body[place : place + 8])]
    elif kind == "shape":
        entry["shape"] = rng.choice([entry["shape"][::-1], [*entry["shape"], 1], [], entry["shape"] * 2])
    elif kind == "huge":
        entry["shape"] = [10**12] * rng.choice([1, 2])
    elif kind == "dtype":
        entry["dtype"] = rng.choice(["F32", "F64", "I64", "I32", "U8", "BOOL", "F16", "BF16", "I8", "F8_E4M3", "X"])
    elif kind == "name":
        header[name + "x"] = header.pop(name)
    elif kind == "gone":  # the tensor and its bytes, so that the file is sound
        begin, end = header.pop(name)["data_offsets"]
        del body[begin:end]
        for one in names:
            if one != name and header[one]["data_offsets"][0] >= end:
                header[one]["data_offsets"] = [place - end + begin for place in header[one]["data_offsets"]]
    elif kind == "offsets":
        entry["data_offsets"] = rng.choice([[0, 0], [0, 10**12], [-1, 4], [4, 0]])
    elif kind == "length":  # a tensor of another length, sound
        begin, end = entry["data_offsets"]
        if begin == max(header[one]["data_offsets"][0] for one in names) and entry["shape"]:
            row = (end - begin) // max(1, entry["shape"][0])
            entry["shape"][0], entry["data_offsets"][1] = entry["shape"][0] + 1, end + row
            body += bytes(row)
    elif kind == "meta":
        header["__metadata__"] = rng.choice(
            [{}, {"vocabulary_size": "-1"}, {"vocabulary_size": "x"}, {"num_words": "9" * 30}]
        )
        if rng.random() < 0.5:
            header["__metadata__"] |= {"vocabulary_size": str(rng.choice([0, 1, 10**12, 2**63])), "sublinear": "1"}
    else:
        header = _elsewhere(rng, header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)


def reseal(folder):
    """Make the manifests of a folder say what is there."""
    for path in folder.rglob("manifest.json"):
        try:
            content = json.loads(path.read_bytes())
            files = content["files"]
            for name, entry in files.items():
                if not (path.parent / name).exists():  # what no command reads is not in a copy
                    continue
                data = (path.parent / name).read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                files[name] = digest if isinstance(entry, str) else {"bytes": len(data), "sha256": digest}
            if "sum" in content:
                del content["sum"]
                text = json.dumps(content, sort_keys=True, separators=(",", ":"))
                content["sum"] = hashlib.sha256(text.encode()).hexdigest()
            path.write_text(json.dumps(content))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # the manifest itself was changed


# --- what is asked


def ask(*arguments):
    """Run a command as the command line does; return its exit code and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line([str(argument) for argument in arguments])
        except SystemExit as end:
            return int(end.code or 0), out.getvalue() + err.getvalue()
    raise AssertionError("the command line always exits")


def commands(name, run, data):
    """Return what can be asked of a specimen's run, by name; the first is asked each time."""
    specimen = SPECIMENS[name]
    file = data / specimen.source
    if "online" in specimen.options:
        again = ("train", file, "--online", "--out", run.parent, "--name", run.name, "--quiet")
        return {"predict": ("predict", run, specimen.text), "again": again, "verify": ("verify", run)}
    if "compare" in specimen.options:
        flags = [f"--{key}={value}" for key, value in specimen.options.items() if key != "compare"]
        name = run.name.removeprefix("compare-")
        return {"again": ("compare", file, "--out", run.parent, "--name", name, *flags, "--quiet")}
    if specimen.interrupted:
        again = [
            f"--{key.replace('_', '-')}={value}"
            for key, value in {**SMALL, "name": run.name, **specimen.options}.items()
        ]
        return {
            "resume": ("train", "--resume", run, "--quiet"),
            "again": ("train", file, "--out", run.parent, *again, "--quiet"),
            "predict": ("predict", run, specimen.text),
            "diagnose": ("diagnose", run, "--seconds", "0.2", "--no-report", "--quiet"),
            "verify": ("verify", run),
        }
    steps = str(specimen.options.get("steps", 1000) + 2)
    return {
        "predict": ("predict", run, specimen.text),
        "evaluate": ("evaluate", run, file, "--json"),
        "certify": ("certify", run, "--seconds", "0.2", "--no-report"),
        "check": ("check", run / "certificate.json", "--run", run),
        "diagnose": ("diagnose", run, "--seconds", "0.2", "--no-report"),
        "resume": ("train", "--resume", run, "--steps", steps, "--quiet"),
        "start": ("train", file, "--start-from", run, "--out", run.parent / "new", "--steps", "1", "--quiet"),
        "report": ("certify", run, "--seconds", "4", "--quiet"),
        "verify": ("verify", run),
        "apply": ("train", "--apply", f"{run / 'diagnosis.json'}#1", "--steps", "1", "--out", run.parent / "new"),
    }


def copied(run, place):
    """Copy a run without what no command reads."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run, place, ignore=shutil.ignore_patterns("report.html", "diagnosis.html"))
    return place
