"""Verifies a saved certificate with numpy alone: `python check.py certificate.json`; nothing of thalweg is imported.

A certificate is a JSON file and an .npz beside it. Each level has evidence, and evidence["rule"], which is the level's
name, says how it is verified: by a function in one of the files beside this one. That function computes the loss of
the saved weights, and a bound with all rounding accounted for ("value - error" is below the best loss, literally); a
level is accepted if what it claims is not above that. What the bound is about is derived from the evidence as well,
never read. Shared by all rules about losses of predictions z (n examples, K outputs):

  loss      softmax | logistic | squared | squared_hinge | hinge, as `losses.py` lists them
  T         class ids [n] or distributions [n,K] (softmax), in [0,1] (logistic), numbers (squared), -1 or 1 (hinges)
  weight    w of each example [n] or number [n,K]; all one where missing;  count: f = sum w phi(z) / count
  factor    of the squares
  residual  int64 [n,K], with exponent and scale: R = scale residual 2^exponent, the dual point (see `losses.py`)
  free_bias 1 where a bias has no penalty: the columns of R sum to 0
  features, examples  what X and T are, in words
"""

import importlib
import sys
import zipfile

_package = __package__ or None
_rules, _reading = (importlib.import_module(f".{n}" if _package else n, _package) for n in ("rules", "reading"))
RULES, CONVERTED, Proved, Refused, need = _rules.RULES, _rules.CONVERTED, _rules.Proved, _rules.Refused, _rules.need
prove, proved, claim, statement, rule = _rules.prove, _rules.proved, _rules.claim, _rules.statement, _rules.rule
check_level, dual_sum, gamma, TINY = _rules.check_level, _rules.dual_sum, _rules.gamma, _rules.TINY
fingerprint = _reading.fingerprint

# What files that are no certificates make of the functions below.
ERRORS = (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError, ArithmeticError, RecursionError,
          MemoryError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zipfile.LargeZipFile)  # fmt: skip


class Unreadable(Refused):
    """The file is no certificate at all."""


def read(path):
    """Return the content of a certificate file and its arrays."""
    return _reading.read(path, need)


class Report:
    """What was found: a sentence for each level, the levels that are verified, and whether the interval's bound is."""

    def __init__(self, path, content):
        self.path, self.count = str(path), len(content["levels"])
        self.sentences, self.verified, self.refused = [], [], []
        self.bound_verified = False

    @property
    def verdict(self):
        """The last line."""
        word = "REFUSED" if self.refused else "verified" if self.bound_verified else "NOT VERIFIED"
        return f"{self.path}: {len(self.verified)} of {self.count} levels verified; the interval's bound: {word}"

    def level(self, level, arrays, rebuilt):
        """Verify a level and say so; returns its bound if it is one of the interval's."""
        name = str(level["name"])[:40]
        evidence = {key: arrays[v["array"]] if isinstance(v, dict) else v for key, v in level["evidence"].items()}
        if not evidence:
            self.sentences.append(f"{name}: NOT VERIFIED, it was saved without evidence.")
            return None
        try:
            evidence, same = (evidence, 0.0) if rebuilt is None else (rebuilt(name, evidence), 1e-9)
            check_level(level, evidence, same=same)
            about = statement(evidence)
        except (Refused, *ERRORS) as error:
            self.refused.append(f"{name}: {str(error)[:400] if isinstance(error, Refused) else type(error).__name__}")
            self.sentences.append(f"REFUSED {self.refused[-1]}")
            return None
        self.verified.append(name)
        self.sentences.append(
            f"{name}: {about['quantity']} >= {level['bound']:.9g}, {about['proof']}: {about['scope']}"
        )
        return level["bound"] if about["whole"] and about["quantity"] == "training loss" else None


def check(path, rebuilt=None):
    """Verify a certificate file; returns a `Report`, raises Unreadable where it is no certificate.

    `rebuilt` maps a level's name and evidence to the evidence with its problem computed again from a run.
    """
    try:
        content, arrays = read(path)
        report, levels = Report(path, content), content["levels"]
        bounds = [bound for bound in (report.level(level, arrays, rebuilt) for level in levels) if bound is not None]
        bound, loss = content["bound"], content["loss"]
        of_loss = [level["loss"] for level in levels if level["quantity"] == "training loss"]
        for right, said in (
            (len({(level["name"], level["quantity"]) for level in levels}) == len(levels), "a level is there twice."),
            (all(abs(one - loss) <= 1e-9 * abs(loss) + 1e-14 for one in of_loss), "the levels have other losses."),
            (bound is None or bound <= loss, "the bound is above the loss."),
        ):
            if not right:
                report.refused.append(f"interval: {said}")
                report.sentences.append(f"REFUSED interval: {said}")
        report.bound_verified = bound is not None and bool(bounds) and bound == max(bounds) and not report.refused
        return report
    except Refused as error:
        raise Unreadable(f"{path}: {error}") from None
    except ERRORS as error:
        said = f"{path} cannot be read as a certificate ({type(error).__name__}: {str(error)[:200]})."
        raise Unreadable(said) from None


def main(arguments):
    """Check each file; returns the exit code."""
    code = 0
    for path in arguments:
        try:
            report = check(path)
            print(*report.sentences, report.verdict, sep="\n")
            code = max(code, 0 if report.bound_verified else 1)
        except Unreadable as error:
            print(error)
            code = 2
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
