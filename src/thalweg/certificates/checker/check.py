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

_package = __package__ or None
_rules, _reading = (importlib.import_module(f".{n}" if _package else n, _package) for n in ("rules", "reading"))
RULES, Proved, Refused, need = _rules.RULES, _rules.Proved, _rules.Refused, _rules.need
prove, proved, claim, statement, rule = _rules.prove, _rules.proved, _rules.claim, _rules.statement, _rules.rule
check_level, dual_sum, gamma, TINY = _rules.check_level, _rules.dual_sum, _rules.gamma, _rules.TINY
is_number, is_gap, price = _rules.is_number, _rules.is_gap, _rules.price
MAX_BYTES, MAX_PRODUCTS, MAX_NUMBERS = _reading.MAX_BYTES, _rules.MAX_PRODUCTS, _rules.MAX_NUMBERS
fingerprint, plain = _reading.fingerprint, _reading.plain

# What a damaged file makes of the functions below and of Python's own may be anything; nothing is accepted then.
ERRORS = (Exception,)
TAKEN = "Taken from the file, unverified: what was reached, notes, times, what is left out, levels without evidence."
FILE_ALONE = (
    "Verified: the arithmetic of this file, that its numbers prove these bounds. Not verified: that these are the "
    f"numbers of your data and of your model, which `check FILE --run RUN` computes again. {TAKEN}"
)


class Unreadable(Refused):
    """The file is no certificate at all."""


def read(path):
    """Return the content of a certificate file and its arrays."""
    return _reading.read(path, need)


class Report:
    """What was found: a sentence for each level, the levels that are verified, and whether the interval's bound is."""

    def __init__(self, path, content):
        self.path, self.count = plain(path, 300), len(content["levels"])
        self.sentences, self.verified, self.refused = [], [], []
        self.bound_verified, self.claims_none = False, False

    @property
    def verdict(self):
        """The last line."""
        word = "none is claimed" if self.claims_none and not self.refused else "NOT VERIFIED"
        word = "verified" if self.bound_verified else word
        return f"{self.path}: {len(self.verified)} of {self.count} levels verified; the interval's bound: {word}"

    def refuse(self, sentence):
        """Note that something is wrong."""
        self.refused.append(plain(sentence, 600))
        self.sentences.append(f"REFUSED {self.refused[-1]}")

    def level(self, level, arrays, rebuilt):
        """Verify a level and say so; returns whether it is verified."""
        name, evidence = plain(level["name"], 40), level["evidence"]
        evidence = {key: arrays[v["array"]] if isinstance(v, dict) else v for key, v in evidence.items()}
        if not evidence:
            self.sentences.append(f"{name}: NOT VERIFIED, it was saved without evidence.")
            return False
        try:
            problem = evidence if rebuilt is None else rebuilt(name, evidence)
            try:
                check_level(level, problem, begin=rebuilt is not None)  # else the whole file has that time
            except Refused:
                if rebuilt is None:
                    raise
                # Features computed again, on another machine perhaps, differ in their last digits: then the file's own
                # must prove the claim as it stands, and those of the run all but the last digits of it.
                check_level(level, evidence)
                check_level(level, problem, same=1e-9)
            about = statement(problem)
        except (Refused, *ERRORS) as error:
            known = isinstance(error, Refused)
            self.refuse(f"{name}: {error if known else f'its evidence is damaged ({type(error).__name__}: {error}).'}")
            return False
        self.verified.append(name)
        said = f"{name}: {about['quantity']} >= {_rules.down(level['bound'])}, {about['proof']}: {about['scope']}"
        self.sentences.append(plain(" ".join([said, *about["assumptions"]]), 2000))
        return True

    def interval(self, content, verified):
        """Check what is said of all levels together: it must be what the best one of the whole says."""
        levels, loss, bound, reached = (content[key] for key in ("levels", "loss", "bound", "reached"))
        mine = [(level, one) for level, one in zip(levels, verified, strict=True)
                if level["quantity"] == content["quantity"]]  # fmt: skip
        whole = [(level, one) for level, one in mine if level["whole"] is True and level["bound"] is not None]
        highest = max((level["bound"] for level, _ in whole), default=None)
        carrying = [(level, one) for level, one in whole if level["bound"] == highest]
        losses = [loss, *(level["loss"] for level, _ in mine)]
        wrong = {
            "a level is there twice.": len({(one["name"], one["quantity"]) for one in levels}) < len(levels),
            "the levels have other losses.": not all(map(is_number, losses))
            or any(abs(one - loss) > 1e-9 * abs(loss) + 1e-14 for one in losses),
            "the bound is not that of the best level.": bound != (highest if highest is None else min(highest, loss)),
            "what was reached lies outside of bound and loss.": not is_number(reached)
            or not (reached <= loss and (bound is None or bound <= reached)),
            "the relative gap is wrong.": not is_gap(content["relative_gap"], loss, bound),
        }
        for key, without in (("scope", "No level bounds the whole configuration."), ("proof", "estimate"),
                             ("unit", content["unit"])):  # fmt: skip
            said = [level[key] for level, _ in carrying] or [without]
            wrong[f"its {key} is not that of the best level."] = content[key] not in said
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                self.refuse(f"interval: {sentence}")
        self.bound_verified = any(one for _, one in carrying) and not self.refused
        self.claims_none = not whole
        if self.claims_none:
            self.sentences.append("No bound is claimed: no level bounds the whole configuration.")


def check(path, rebuilt=None):
    """Verify a certificate file; returns a `Report`, raises Unreadable where it is no certificate.

    `rebuilt` maps a level's name and evidence to the evidence with its problem computed again from a run.
    """
    try:
        content, arrays = read(path)
        names = [str(level["name"]) for level in content["levels"]]
        twice = len(names) <= 2 * len(RULES) + 2 and all(names.count(name) <= 2 for name in names)
        need(twice, "it has more levels than any certificate.")  # two of a name: floors of the loss and of the errors
        report, _rules.SPENT[0] = Report(path, content), 0.0
        report.interval(content, [report.level(level, arrays, rebuilt) for level in content["levels"]])
        report.sentences.append(FILE_ALONE if rebuilt is None and (report.verified or report.refused) else TAKEN)
        return report
    except Refused as error:
        raise Unreadable(plain(f"{path}: {error}")) from None
    except ERRORS as error:
        said = f"{path} cannot be read as a certificate ({type(error).__name__}: {error})."
        raise Unreadable(plain(said)) from None


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
