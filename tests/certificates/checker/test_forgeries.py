"""A forger's table: certificates that were changed by somebody who knows of the checksums, and what becomes of them.

REFUSED (exit code 1) or UNREADABLE (2), in a sentence, in seconds, without a traceback or a control character.
"""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from forging import HONEST, Forger, bag, fields_from_evidence, is_false, layer, mutated_fields, mutated_file

from thalweg.certificates.certificate.interval import Interval
from thalweg.certificates.checker import check as checker
from thalweg.certificates.checker.check import check, main

REFUSED, UNREADABLE = 1, 2
HUGE = 10**400


def put(key, value):
    """Set a number or an array of the first level's evidence."""

    def edit(f):
        f[key] = value(f[key]) if callable(value) else value

    return edit


def say(key, value, *, interval=False):
    """Set a field of the first level, or of the interval."""

    def edit(f):
        at = f.content if interval else f.level
        at[key] = value(at[key]) if callable(value) else value

    return edit


def leave_out(key):
    def edit(f):
        del f[key]

    return edit


def one_off(array):
    """The same array with one number changed."""
    changed = array.copy()
    changed.reshape(-1)[0] += 1
    return changed


def raised(f):
    f.claim(f.level["bound"] + 1e-12)


def raised_to_the_loss(f):
    f.claim(f.level["loss"])


def lowered_loss(f):
    f.claim(f.level["bound"], loss=0.5 * (f.level["loss"] + f.level["bound"]))


def huge_bound_and_loss(f):
    f.claim(1e308, loss=1.1e308)


def residual_of_floats(f):
    f["residual"] = f["residual"].astype(float)


def residual_near_overflow(f):
    whole = f["residual"]
    whole[:] = 2**62
    f["residual"] = whole


def residual_that_wraps_around(f):
    whole = f["residual"]
    whole[:, 0], whole[:, 1], whole[:, 2] = -(2**63), -(2**63), 0
    f["residual"] = whole


def residual_whose_rows_do_not_close(f):
    whole = f["residual"]
    whole[0, 0] += 1
    whole[1, 0] -= 1
    f["residual"] = whole


def residual_whose_columns_do_not_close(f):
    whole = f["residual"]
    whole[0, 0] += 1
    whole[0, 1] -= 1
    f["residual"] = whole


def residual_outside_its_domain(f):
    f["scale"] = 1.5
    f["l2"] = 10.0


def residual_taken_from_another_problem(f):
    other = bag(5).levels[0].evidence
    for key in ("residual", "exponent", "scale"):
        f[key] = other[key]


def targets_taken_from_another_problem(f):
    f["T"] = np.roll(f["T"], 1)


def evidence_of_another_rule(f):
    f.level["evidence"], f.content["levels"][1]["evidence"] = f.content["levels"][1]["evidence"], f.level["evidence"]


def weights_for_each_output(f):
    f["weight"] = np.ones((12, 3))


def soft_targets_to_be_broadcast(f):
    f["T"] = np.full((12, 1), 1 / 3)


def one_row_of_soft_targets(f):
    f["T"] = np.full((1, 3), 1 / 3)


def second_level_twice(f):
    f.content["levels"].append(f.content["levels"][1])


def first_level_twice(f):
    f.content["levels"].append(dict(f.level))


def first_level_removed(f):
    kept = f.content["levels"][1]
    used = {v["array"] for v in kept["evidence"].values() if isinstance(v, dict)}
    f.content["levels"] = [kept]
    f.arrays = {name: array for name, array in f.arrays.items() if name in used}


def level_added_without_evidence(f):
    f.content["levels"].append({**f.level, "name": "floor", "evidence": {}, "bound": f.level["loss"]})
    f.content["bound"] = f.content["reached"] = f.level["loss"]
    f.content["relative_gap"] = 0.0


def evidence_removed(f):
    f.level["evidence"] = {}
    used = {v["array"] for v in f.content["levels"][1]["evidence"].values() if isinstance(v, dict)}
    f.arrays = {name: array for name, array in f.arrays.items() if name in used}


def part_said_to_be_the_whole(f):
    part = f.content["levels"][1]
    part["whole"] = True
    f.content.update(bound=part["bound"], relative_gap=part["relative_gap"], scope=part["scope"])


def shared_array_named_twice(f):
    f.evidence["residual"] = f.evidence["T"]


def no_rows(f):
    f["residual"], f["T"] = np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    f["X_starts"] = np.zeros(1, np.int64)
    f["X_values"], f["X_columns"] = np.zeros(0), np.zeros(0, np.int32)


def no_classes(f):
    f["residual"] = np.zeros((12, 0), np.int64)


def columns_in_fortran_order_and_wrong(f):
    f["W"] = np.asfortranarray(f["W"] * 1.001)


def another_bias(f):
    f["b"] = f["b"] + np.array([0.25, 0.0, 0.0])  # the same for all outputs would be no other softmax


def bias_declared_absent(f):
    del f["b"]
    f["free_bias"] = 0


def penalty_raised(f):
    f["l2"] = f["l2"] * 1.5


def offset_raised(f):
    f["offset"] = 0.1


def negative_offset(f):
    f["offset"] = -0.1
    f.claim(f.level["bound"] - 0.1, loss=f.level["loss"] - 0.1)


def features_moved(f):
    f["X_columns"] = f["X_columns"][::-1].copy()


def width_of_a_terabyte(f):
    f["X_width"] = 2**37


def smaller_features(f):
    f["X_values"] = f["X_values"] * 0.5


def nearly_all_underflows(f):
    """Products below 1e-308 are 0 in float64; a scale of 1e200 would bring them back."""
    f["X_values"] = f["X_values"] * 1e-200
    f["exponent"] = -590
    f["scale"] = 1e55


def fewer_examples_counted(f):
    f["count"] = 6.0


KNOWING = {
    "bound raised by 1e-12": (raised, REFUSED),
    "bound raised to the loss": (raised_to_the_loss, REFUSED),
    "loss lowered": (lowered_loss, REFUSED),
    "bound and loss near overflow": (huge_bound_and_loss, REFUSED),
    "bound of 10^400": (say("bound", HUGE), REFUSED),
    "loss of 10^400": (say("loss", HUGE), REFUSED),
    "bound a text": (say("bound", "0.3"), (REFUSED, UNREADABLE)),
    "bound None": (say("bound", None), (REFUSED, UNREADABLE)),
    "loss None": (say("loss", None), (REFUSED, UNREADABLE)),
    "bound False": (say("bound", False), REFUSED),
    "bound above the loss": (say("bound", 100.0), REFUSED),
    "loss a list": (say("loss", [1.0]), (REFUSED, UNREADABLE)),
    "negative loss": (say("loss", -1.0), REFUSED),
    "interval's bound raised": (say("bound", lambda b: b + 1e-12, interval=True), REFUSED),
    "interval's bound lowered": (say("bound", 0.0, interval=True), REFUSED),
    "interval's bound None": (say("bound", None, interval=True), REFUSED),
    "interval's bound True": (say("bound", True, interval=True), REFUSED),
    "interval's loss": (say("loss", 2.0, interval=True), REFUSED),
    "interval's loss None": (say("loss", None, interval=True), (REFUSED, UNREADABLE)),
    "interval's quantity": (say("quantity", "test loss", interval=True), REFUSED),
    "interval's scope": (say("scope", "No model at all is better.", interval=True), REFUSED),
    "interval's proof": (say("proof", "absolute proof", interval=True), REFUSED),
    "interval's unit": (say("unit", "bits", interval=True), REFUSED),
    "interval's gap": (say("relative_gap", 0.0, interval=True), REFUSED),
    "interval's reached": (say("reached", 0.0, interval=True), REFUSED),
    "interval's reached above the loss": (say("reached", 1e3, interval=True), REFUSED),
    "interval without levels": (say("levels", [], interval=True), (REFUSED, UNREADABLE)),
    "levels no list": (say("levels", 3, interval=True), UNREADABLE),
    "level no object": (say("levels", ["factored"], interval=True), UNREADABLE),
    "no arrays named": (leave_out("residual"), REFUSED),
    "scope": (say("scope", "No model at all has a lower loss."), REFUSED),
    "scope, one letter": (say("scope", lambda text: text + " "), REFUSED),
    "whole as a number": (say("whole", 1), REFUSED),
    "not the whole": (say("whole", False), REFUSED),
    "proof": (say("proof", "proof under a stated tolerance"), REFUSED),
    "unit": (say("unit", "bits"), REFUSED),
    "quantity": (say("quantity", "training errors"), REFUSED),
    "assumptions no list": (say("assumptions", "none"), REFUSED),
    "relative gap": (say("relative_gap", 0.0), REFUSED),
    "relative gap None": (say("relative_gap", None), REFUSED),
    "relative gap True": (say("relative_gap", True), REFUSED),
    "reached below the bound": (say("reached", 0.0), REFUSED),
    "reached above the loss": (say("reached", 1e9), REFUSED),
    "reached a text": (say("reached", "much"), REFUSED),
    "probability": (say("probability", 0.5), REFUSED),
    "upper": (say("upper", 0.5), REFUSED),
    "name": (say("name", "floor"), REFUSED),
    "name of nothing": (say("name", "magic"), REFUSED),
    "name and rule of nothing": (lambda f: (say("name", "magic")(f), put("rule", "magic")(f)), REFUSED),
    "name and rule of another": (lambda f: (say("name", "two_layer")(f), put("rule", "two_layer")(f)), REFUSED),
    "rule a function": (lambda f: (say("name", "__init__")(f), put("rule", "__init__")(f)), REFUSED),
    "rule an array": (lambda f: put("rule", np.zeros(3))(f), REFUSED),
    "no rule": (leave_out("rule"), REFUSED),
    "a part said to be the whole": (part_said_to_be_the_whole, REFUSED),
    "another level's evidence": (evidence_of_another_rule, REFUSED),
    "first level twice": (first_level_twice, REFUSED),
    "second level twice": (second_level_twice, REFUSED),
    "first level removed": (first_level_removed, REFUSED),
    "evidence removed": (evidence_removed, REFUSED),
    "a level without evidence added": (level_added_without_evidence, REFUSED),
    "residual of floats": (residual_of_floats, REFUSED),
    "residual of int32": (put("residual", lambda a: a.astype(np.int32)), REFUSED),
    "residual of uint64": (put("residual", lambda a: a.astype(np.uint64)), UNREADABLE),
    "residual of complex numbers": (put("residual", lambda a: a.astype(complex)), UNREADABLE),
    "residual of objects": (put("residual", lambda a: a.astype(object)), UNREADABLE),
    "residual of texts": (put("residual", lambda a: a.astype("U40")), UNREADABLE),
    "residual big-endian": (put("residual", lambda a: a.astype(">i8")), UNREADABLE),
    "residual flat": (put("residual", lambda a: a.reshape(-1)), REFUSED),
    "residual transposed": (put("residual", lambda a: np.ascontiguousarray(a.T)), REFUSED),
    "residual one row short": (put("residual", lambda a: a[:-1]), REFUSED),
    "residual a number": (put("residual", 0), REFUSED),
    "residual near overflow": (residual_near_overflow, REFUSED),
    "residual that wraps around": (residual_that_wraps_around, REFUSED),
    "residual whose rows do not close": (residual_whose_rows_do_not_close, REFUSED),
    "residual whose columns do not close": (residual_whose_columns_do_not_close, REFUSED),
    "residual outside its domain": (residual_outside_its_domain, REFUSED),
    "residual of another problem": (residual_taken_from_another_problem, REFUSED),
    "residual zero": (put("residual", np.zeros_like), REFUSED),
    "targets of another problem": (targets_taken_from_another_problem, REFUSED),
    "target without a class": (put("T", lambda t: t + 2), REFUSED),
    "target below zero": (put("T", lambda t: t - 1), REFUSED),
    "targets of floats": (put("T", lambda t: t.astype(float)), REFUSED),
    "targets of bool": (put("T", lambda t: t > 0), REFUSED),
    "targets to be broadcast": (soft_targets_to_be_broadcast, REFUSED),
    "one row of targets": (one_row_of_soft_targets, REFUSED),
    "weights for each output": (weights_for_each_output, REFUSED),
    "weights negative": (put("weight", -np.ones(12)), REFUSED),
    "weights of 1e-200": (put("weight", np.full(12, 1e-200)), REFUSED),
    "weights None": (put("weight", None), REFUSED),
    "another loss": (put("loss", "hinge"), REFUSED),
    "no such loss": (put("loss", "zero"), REFUSED),
    "loss a number": (put("loss", 1), REFUSED),
    "exponent raised": (put("exponent", lambda one: one + 1), REFUSED),
    "exponent a float": (put("exponent", float), REFUSED),
    "exponent huge": (put("exponent", 10**6), REFUSED),
    "exponent 10^400": (put("exponent", HUGE), REFUSED),
    "scale raised": (put("scale", lambda one: 2 * one), REFUSED),
    "scale negative": (put("scale", -1.0), REFUSED),
    "scale a text": (put("scale", "1.0"), REFUSED),
    "scale infinite, as a text": (put("scale", "Infinity"), REFUSED),
    "scale True": (put("scale", True), REFUSED),
    "count halved": (fewer_examples_counted, REFUSED),
    "count zero": (put("count", 0.0), REFUSED),
    "count negative": (put("count", -12.0), REFUSED),
    "count 1e308": (put("count", 1e308), REFUSED),
    "count None": (put("count", None), REFUSED),
    "count a list": (put("count", [12.0]), REFUSED),
    "penalty raised": (penalty_raised, REFUSED),
    "penalty zero": (put("l2", 0.0), REFUSED),
    "penalty 10^400": (put("l2", HUGE), REFUSED),
    "penalty a text": (put("l2", "0.02"), REFUSED),
    "penalty True": (put("l2", True), REFUSED),
    "another regularizer": (put("regularizer", "l2"), REFUSED),
    "no such regularizer": (put("regularizer", "none"), REFUSED),
    "offset raised": (offset_raised, REFUSED),
    "offset negative": (negative_offset, REFUSED),
    "offset a text": (put("offset", "0"), REFUSED),
    "bias declared absent": (bias_declared_absent, REFUSED),
    "bias declared absent, but there": (put("free_bias", 0), REFUSED),
    "bias declared half": (put("free_bias", 0.5), REFUSED),
    "another bias": (another_bias, REFUSED),
    "bias for another number of outputs": (put("b", np.zeros(2)), REFUSED),
    "weights changed": (put("W", one_off), REFUSED),
    "embedding changed": (put("E", one_off), REFUSED),
    "weights in another order": (columns_in_fortran_order_and_wrong, REFUSED),
    "weights of other shape": (put("W", lambda w: w[:, :1]), REFUSED),
    "weights NaN": (put("W", lambda w: w * np.nan), REFUSED),
    "weights infinite": (put("W", lambda w: w + np.inf), REFUSED),
    "weights float32": (put("W", lambda w: w.astype(np.float32)), REFUSED),
    "weights cube": (put("W", lambda w: w[None]), REFUSED),
    "weights of five dimensions": (put("W", lambda w: w[None, None, None]), UNREADABLE),
    "features halved": (smaller_features, REFUSED),
    "features NaN": (put("X_values", lambda x: x * np.nan), REFUSED),
    "features in other columns": (features_moved, REFUSED),
    "features without a column": (put("X_columns", lambda c: c + 4), REFUSED),
    "features of negative columns": (put("X_columns", lambda c: c - 1), REFUSED),
    "features of float columns": (put("X_columns", lambda c: c.astype(float)), REFUSED),
    "features wider than memory": (width_of_a_terabyte, REFUSED),
    "features of negative width": (put("X_width", -5), REFUSED),
    "features of 10^400 columns": (put("X_width", HUGE), REFUSED),
    "features of float width": (put("X_width", 5.0), REFUSED),
    "features one row short": (put("X_starts", lambda s: s[:-1]), REFUSED),
    "features with starts that go back": (put("X_starts", lambda s: s[::-1].copy()), REFUSED),
    "features without starts": (put("X_starts", np.zeros(0, np.int64)), REFUSED),
    "features that underflow": (nearly_all_underflows, REFUSED),
    "no rows": (no_rows, REFUSED),
    "no classes": (no_classes, REFUSED),
    "one array for two fields": (shared_array_named_twice, (REFUSED, UNREADABLE)),
    "words with a control character": (put("features", "\x1b[2Jfeatures"), REFUSED),
    "words in two lines": (put("features", "features\nverified"), REFUSED),
    "words without end": (put("features", "f" * 10**6), REFUSED),
    "words as a number": (put("features", 7), REFUSED),
    "name with a control character": (say("name", "\x1b[2J\x1b[31mfactored"), REFUSED),
    "name half a surrogate": (say("name", "\ud800"), REFUSED),
    "name without end": (say("name", "f" * 10**6), REFUSED),
    "name a list": (say("name", ["factored"]), (REFUSED, UNREADABLE)),
}  # fmt: skip


@pytest.fixture
def forger(tmp_path):
    bag().save(tmp_path / "certificate.json")
    return Forger(tmp_path / "certificate.json")


def judged(path, capsys, expected):
    """Check a file as a script would; returns what was printed."""
    begin = time.process_time()
    code = main([str(path)])
    said = capsys.readouterr().out
    assert code in (expected if isinstance(expected, tuple) else (expected,)), said
    assert time.process_time() - begin < 10.0
    assert "\x1b" not in said
    assert said.replace("\n", "").isprintable()
    assert len(said) < 10_000
    if code == REFUSED:
        assert "REFUSED" in said or "NOT VERIFIED, it was saved without evidence" in said
        assert said.rstrip().endswith("NOT VERIFIED")
    return said


def test_the_certificate_that_is_forged_is_honest(forger, capsys):
    assert main([str(forger.path)]) == 0
    assert capsys.readouterr().out.endswith("2 of 2 levels verified; the interval's bound: verified\n")
    forger.save()
    assert main([str(forger.path)]) == 0


@pytest.mark.parametrize("name", KNOWING)
def test_forgeries_with_right_checksums_are_refused(name, forger, capsys):
    edit, expected = KNOWING[name]
    edit(forger)
    forger.save()
    judged(forger.path, capsys, expected)


def test_arrays_under_old_checksums_are_noticed(forger, capsys):
    forger["W"] = forger["W"]
    forger.save()
    forger.hashed = False
    name = forger.name("W")
    for change in (lambda a: a + 1e-16, lambda a: -a, lambda a: a.T.copy(), lambda a: a[:1]):
        kept = forger.arrays[name]
        forger.arrays[name] = change(kept)
        forger.save()
        assert "has been changed" in judged(forger.path, capsys, UNREADABLE)
        forger.arrays[name] = kept


# ---- files ----


def written(text):
    def edit(f):
        f.path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return edit


def key_twice(f):
    text = f.path.read_text()
    f.path.write_text(text.replace('"bound":', '"bound": 0.0, "bound":', 1))


def not_a_number(word):
    def edit(f):
        f.content["levels"][0]["bound"] = "BOUND"
        f.path.write_text(json.dumps(f.content).replace('"BOUND"', word))

    return edit


def cut(suffix, keep):
    def edit(f):
        path = f.path.with_suffix(suffix)
        path.write_bytes(path.read_bytes()[:keep])

    return edit


def arrays_gone(f):
    f.beside.unlink()


def arrays_a_folder(f):
    f.beside.unlink()
    f.beside.mkdir()


def arrays_a_pipe(f):
    f.beside.unlink()
    os.mkfifo(f.beside)


def arrays_a_device(f):
    f.beside.unlink()
    f.beside.symlink_to("/dev/zero")


def json_a_pipe(f):
    f.path.unlink()
    os.mkfifo(f.path)


def json_a_device(f):
    f.path.unlink()
    f.path.symlink_to("/dev/zero")


def name_twice(f):
    with zipfile.ZipFile(f.beside) as file:
        first = file.namelist()[0]
        data = file.read(first)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(f.beside, "a") as file:
        file.writestr(first, data)


def encrypted(f):
    raw = bytearray(f.beside.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.find(signature) + place] |= 1
    f.beside.write_bytes(raw)


def oddly_compressed(f):
    raw = bytearray(f.beside.read_bytes())
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        raw[raw.find(signature) + place] = 97
    f.beside.write_bytes(raw)


def size_that_lies(f):
    raw = bytearray(f.beside.read_bytes())
    place = raw.find(b"PK\x01\x02")
    raw[place + 20 : place + 28] = (2**31 - 8).to_bytes(4, "little") * 2
    f.beside.write_bytes(raw)


def shape_that_lies(shape):
    def edit(f):
        f.zipped()
        name = f.name("W")
        with zipfile.ZipFile(f.beside) as file:
            every = {one: file.read(one) for one in file.namelist()}
        head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        head = head.ljust(117) + b"\n"
        every[f"{name}.npy"] = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(48)
        with zipfile.ZipFile(f.beside, "w") as file:
            for one, data in every.items():
                file.writestr(one, data)

    return edit


def bomb(f, megabytes=20):
    """A W of many bytes in few."""
    name = f.name("W")
    head = (
        f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({125_000 * megabytes},), }}".encode().ljust(117) + b"\n"
    )
    with zipfile.ZipFile(f.beside) as file:
        every = {one: file.read(one) for one in file.namelist()}
    with zipfile.ZipFile(f.beside, "w", zipfile.ZIP_DEFLATED) as file:
        for one, data in every.items():
            if one != f"{name}.npy":
                file.writestr(one, data)
        with file.open(f"{name}.npy", "w") as out:
            out.write(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
            for _ in range(megabytes):
                out.write(bytes(1_000_000))


def unreferenced(f):
    f.zipped(zipfile.ZIP_DEFLATED, ("huge.npy", bytes(10_000_000)))


def a_million_files(f):
    """The table of contents says that it has 400 MB."""
    raw = bytearray(f.beside.read_bytes())
    raw[-10:-6] = (400_000_000).to_bytes(4, "little")
    f.beside.write_bytes(raw)


def table_of_contents_cut_short(f):
    """The 64-bit sizes of a local header are looked for in bytes that are not there."""
    raw = bytearray(f.beside.read_bytes())
    raw[raw.find(b"PK\x03\x04") + 28] = 255
    f.beside.write_bytes(raw)


def place_that_lies(f):
    raw = bytearray(f.beside.read_bytes())
    place = raw.find(b"PK\x01\x02") + 42
    raw[place : place + 4] = (len(raw) - 20).to_bytes(4, "little")
    f.beside.write_bytes(raw)


FILES = {
    "a local header of another length": (table_of_contents_cut_short, UNREADABLE),
    "an array that is said to lie elsewhere": (place_that_lies, UNREADABLE),
    "empty": (written(""), UNREADABLE),
    "no JSON": (written("certificate"), UNREADABLE),
    "not UTF-8": (written(b"\xff\xfe{}"), UNREADABLE),
    "a number": (written("3"), UNREADABLE),
    "a list": (written("[]"), UNREADABLE),
    "an object": (written("{}"), UNREADABLE),
    "no levels, no bound": (written('{"levels": [], "arrays": {}}'), UNREADABLE),
    "levels within levels": (written('{"levels": {"levels": []}, "arrays": {}}'), UNREADABLE),
    "lists 100,000 deep": (written("[" * 100_000), UNREADABLE),
    "objects 100,000 deep": (written('{"a":' * 100_000), UNREADABLE),
    "a number of 10,000 digits": (written('{"levels": ' + "9" * 10_000 + "}"), UNREADABLE),
    "larger than any": (written(" " * (2**22 + 1)), UNREADABLE),
    "NaN": (not_a_number("NaN"), UNREADABLE),
    "Infinity": (not_a_number("-Infinity"), UNREADABLE),
    "1e999": (not_a_number("1e999"), REFUSED),
    "a key twice": (key_twice, UNREADABLE),
    "JSON cut off": (cut(".json", 500), UNREADABLE),
    "arrays cut off": (cut(".npz", -100), UNREADABLE),
    "arrays cut to nothing": (cut(".npz", 0), UNREADABLE),
    "arrays cut to 30 bytes": (cut(".npz", 30), UNREADABLE),
    "arrays gone": (arrays_gone, UNREADABLE),
    "arrays a folder": (arrays_a_folder, UNREADABLE),
    "arrays a pipe": (arrays_a_pipe, UNREADABLE),
    "arrays a device": (arrays_a_device, UNREADABLE),
    "JSON a pipe": (json_a_pipe, UNREADABLE),
    "JSON a device": (json_a_device, UNREADABLE),
    "an array twice": (name_twice, UNREADABLE),
    "encrypted": (encrypted, UNREADABLE),
    "oddly compressed": (oddly_compressed, UNREADABLE),
    "compressed": (lambda f: f.zipped(zipfile.ZIP_DEFLATED), UNREADABLE),
    "compressed by bzip2": (lambda f: f.zipped(zipfile.ZIP_BZIP2), UNREADABLE),
    "a size that lies": (size_that_lies, UNREADABLE),
    "a negative shape": (shape_that_lies("(-1,)"), UNREADABLE),
    "two negative sizes": (shape_that_lies("(-2, -3)"), UNREADABLE),
    "a huge shape": (shape_that_lies("(1 << 60,)".replace("1 << 60", str(2**60))), UNREADABLE),
    "a shape of 10^30": (shape_that_lies(f"({10**15}, {10**15})"), UNREADABLE),
    "a shape that is no shape": (shape_that_lies("'six'"), UNREADABLE),
    "an array that nobody refers to": (unreferenced, UNREADABLE),
    "a bomb": (bomb, UNREADABLE),
    "a table of contents of 400 MB": (a_million_files, UNREADABLE),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_certificates_are_refused_in_a_sentence(name, forger, capsys):
    edit, expected = FILES[name]
    edit(forger)
    judged(forger.path, capsys, expected)


def test_odd_paths_are_refused_in_a_sentence(tmp_path, capsys):
    for path in (tmp_path, tmp_path / "nothing.json", tmp_path / "no\x1b[2Jthing.json", "\0", "x" * 5000, ""):
        judged(path, capsys, UNREADABLE)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_bomb_takes_no_memory(forger):
    bomb(forger, 100)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import check; code = check.main(sys.argv[2:])\n"
    script += "print(code, [line for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    folder = str(Path(checker.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script, folder, str(forger.path)], capture_output=True, text=True, check=True, timeout=60
    )
    code, _, kilobytes, _ = done.stdout.splitlines()[-1].replace("\\t", " ").split()
    assert (int(code), int(kilobytes) < 110_000) == (UNREADABLE, True)


# ---- evidence that is consistent, of another problem ----


def test_consistent_evidence_of_another_problem_is_true_of_that_and_the_checker_says_what_it_does_not_know(
    tmp_path, capsys
):
    """Without the run nobody can tell; the sentence says so."""
    path = tmp_path / "certificate.json"
    bag(7, intercept=False).save(path)
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert "Not verified: that these are the numbers of your data and of your model" in said
    assert "without a bias" in said


def test_more_assumptions_may_stand_there_but_none_may_be_missing(tmp_path):
    interval = layer("squared ball")
    path = tmp_path / "certificate.json"
    interval.save(path)
    f = Forger(path)
    f.level["assumptions"].append("Dropout is left out.")
    f.save()
    assert check(path).refused == []
    f.level["assumptions"].pop(0)
    f.save()
    assert "leaves out an assumption" in check(path).refused[0]


@pytest.mark.parametrize("name", HONEST)
def test_honest_ones_pass_and_the_least_rise_of_the_bound_does_not(name, tmp_path):
    path = tmp_path / "certificate.json"
    interval = HONEST[name]()
    interval.save(path)
    assert check(path).refused == []
    f = Forger(path)
    proves = checker.proved(checker.prove(dict(interval.levels[0].evidence)))
    f.claim(proves)
    f.save()
    assert check(path).refused == []
    f.claim(float(np.nextafter(proves, np.inf)))
    f.save()
    assert len(check(path).refused) >= 1


def test_a_level_without_evidence_is_not_verified_and_cannot_carry_the_bound(tmp_path):
    whole, part = bag().levels
    path = tmp_path / "certificate.json"
    Interval(loss=whole.loss, levels=(whole, part)).save(path, max_bytes=0)
    report = check(path)
    assert (report.refused, report.verified, report.bound_verified) == ([], [], False)
    assert report.verdict.endswith("0 of 2 levels verified; the interval's bound: NOT VERIFIED")
    assert main([str(path)]) == 1


@pytest.mark.parametrize("name", HONEST)
def test_nothing_false_is_accepted_after_random_changes(name, tmp_path, capsys):
    """More of them: benchmarks/forge.py."""
    honest, path = tmp_path / "honest.json", tmp_path / "mutant.json"
    HONEST[name]().save(honest)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        path.write_bytes(honest.read_bytes())
        path.with_suffix(".npz").write_bytes(honest.with_suffix(".npz").read_bytes())
        if seed % 3 == 0:
            mutated_file(rng, path)
        else:
            f = Forger(path)
            mutated_fields(rng, f)
            if seed % 3 == 1:
                fields_from_evidence(f)
            f.save()
        code = main([str(path)])
        said = capsys.readouterr().out
        assert code in (0, 1, 2)
        assert said.replace("\n", "").isprintable()
        assert code == 2 or is_false(path, check(path)) == ""


def test_the_table_is_long():
    assert len(KNOWING) + len(FILES) >= 60
    assert all(Path(checker.__file__).with_name(f"{name}.py").exists() for name in set(checker.RULES.values()))
