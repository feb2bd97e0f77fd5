"""Every kind of finding: evidence that calls for it, and the healthy evidence that calls for none."""

import copy
import json
from pathlib import Path

import pytest

from thalweg.diagnosis import symptoms
from thalweg.diagnosis.catalog import ACTIONS, KINDS
from thalweg.diagnosis.finding import Finding, Repair, Severity
from thalweg.diagnosis.symptoms.limits import LIMITS, limit
from thalweg.diagnosis.symptoms.rules import findings_of, ordered
from thalweg.training.recipe.options import OPTIONS

HEALTHY = {
    "facts": {
        "task": "classify", "family": "mlp", "optimizer": "adamw", "lr": 3e-3, "momentum": 0.9, "weight_decay": 0.01,
        "l2": 0.0, "clip": 1.0, "batch_size": 32, "full_batch": False, "dropout": 0.1, "width": 64, "steps": 300,
        "steps_per_epoch": 75, "num_train": 2400, "num_valid": 600, "num_classes": 6, "is_proved": False,
        "precision": "float32", "options": {"epochs": 4.0, "width": 32, "hidden": 64, "layers": 2},
        "data": {"label_names": ["a", "b"], "valid_in_train": 0.0, "duplicates": 0.0, "conflicts": 0.0},
    },
    "trends": {
        "num_steps": 300, "rejected": 0, "loss_start": 1.8, "loss_end": 0.3, "loss_best": 0.3, "drop": 0.8,
        "gain_at_end": 0.02, "gain_certainty": 3.0, "spikes": 0, "spike_height": 0.0, "ups_late": 0.5, "swing": 0.05,
        "lr_peak": 3e-3, "lr_end": 0.001, "lr_tail": 0.02, "lr_average": 0.5, "gain_before_tail": 0.02,
        "gain_before_tail_certainty": 3.0, "grad_norm": 1.0, "grad_norm_start": 1.0, "grad_norm_peak": 3.0,
        "clipped": 0.2, "update_ratio_typical": 5e-3, "update_growth": 0.1, "alignment_late": 0.0, "alignments": 9,
        "grad_norm_by_layer": {"x": 1.0, "y": 1.0}, "unchanged": {"x": 0.0, "y": 0.0}, "without_update": [],
        "without_gradient": [], "sites_start": {"flow_range": 0.1, "flow_slope": 0.0}, "valid_rise": 0.02,
        "valid_rise_of_start": 0.01, "valid_best_at": 0.75, "valid_end": 0.8, "num_evaluations": 4, "repetition": 0.02,
        "repetition_error": 0.06, "dead": {"x (relu)": 0.05}, "saturated": {"y (tanh)": 0.1},
    },
    "probes": {
        "rate": {"critical_factor_start": 8.0, "best_factor_start": 4.0},
        "start": {"norm_ratio_by": {"x": 1.1}, "scale": {"x": 0.6, "y": 0.6}, "symmetric": {"x": 0.0},
                  "loss": 1.8},
        "gradients": {"noise_scale": 300.0, "frozen": [], "frozen_share": 0.0,
                      "non_finite": {"parameters": [], "gradients": []}},
        "memory": {"layers": [{"name": "cell", "slope": -0.2}]},
        "representations": {"states": {"cosine": 0.2}, "embeddings": {"embedding": {"used_cosine": 0.01}}},
        "attention": {"sites": [{"name": "attention", "peaked": [0.0, 0.1], "entropy": [0.9, 0.8]}]},
        "modes": {"random_in_evaluation": 0.0, "train_mode_loss": 0.32, "eval_loss": 0.3},
        "padding": {"padding_leak": 0.0, "future_leak": None},
        "inputs": {"numbers": {"features": {"largest_offset": 0.5, "scale_range": 2.0, "largest_value": 3.0,
                                            "constant": [], "columns": [{"column": 0, "skew": 0.4, "offset": 0.5}]}}},
        "order": {"label_clumping": 1.1, "one_label_share": 0.0},
        "predictions": {"label_entropy": 1.6, "prediction_entropy": 1.6, "top_prediction_share": 0.3,
                        "accuracy_over_majority": 0.5, "never_predicted": [], "answers": 600},
        "capacity": {"train_loss": 0.25},
        "spectrum": {"lr_times_sharpness": 0.5, "certified_negative": True, "relative_negative": 0.005},
        "weights": {"penalty_share": 0.0, "norm": 9.0, "largest": 1.0, "moved": 0.4},
        "labels": {"noise_share": 0.02},
        "precision": {"float16_underflow": 0.1},
    },
}  # fmt: skip
# What is changed in the healthy evidence: path -> value.
SICK = {
    "non-finite": {"trends.rejected": 15, "trends.rejected_share": 0.5,
                   "trends.first_rejected": {"step": 3, "where": "embedding", "what": "parameter"}},
    "precision-underflow": {"trends.unchanged": {"x": 0.9, "y": 0.95}},
    "learning-rate-too-high": {"probes.rate.critical_factor_start": 0.001, "probes.weights.moved": 50.0},
    "learning-rate-too-low": {"trends.update_ratio_typical": 1e-6, "probes.weights.moved": 0.001,
                              "probes.rate.best_factor_start": 4096.0},
    "oscillation": {"facts.full_batch": True, "trends.ups_late": 0.5},
    "edge-of-stability": {"facts.full_batch": True, "facts.optimizer": "sgd", "facts.momentum": 0.0,
                          "trends.ups_late": 0.05, "probes.spectrum.lr_times_sharpness": 2.02},
    "loss-spikes": {"trends.spikes": 9, "trends.spike_height": 8.0, "trends.spike_steps": [40, 80]},
    "late-updates-explode": {"trends.update_growth": 60.0},
    "momentum-too-high": {"facts.optimizer": "sgd", "facts.momentum": 0.999, "trends.drop": 0.1},
    "schedule-ended-early": {"trends.lr_tail": 0.8, "trends.gain_before_tail": 0.2},
    "plateau-at-saddle": {"trends.drop": 0.01, "trends.gain_at_end": 0.0, "probes.spectrum.relative_negative": 0.5},
    "clipping-always": {"facts.optimizer": "sgd", "facts.clip": 1e-3, "trends.clipped": 1.0},
    "clipping-never": {"facts.clip": 1e6, "trends.clipped": 0.0, "trends.spikes": 9, "trends.spike_height": 8.0,
                       "trends.spike_steps": [40]},
    "batch-too-small": {"facts.batch_size": 1, "trends.lr_end": 1.0},
    "batch-too-large": {"facts.batch_size": 4096, "trends.num_steps": 8, "probes.gradients.noise_scale": 10.0},
    "weight-decay-too-strong": {"facts.weight_decay": 20.0, "probes.start.norm_ratio_by": {"x": 0.01}},
    "dropout-too-strong": {"facts.dropout": 0.95, "probes.modes.train_mode_loss": 1.5},
    "vanishing-gradient": {"trends.sites_start": {"flow_range": -14.0, "flow_slope": 0.7}},
    "vanishing-in-time": {"probes.memory.layers": [{"name": "cell", "slope": -3.0}]},
    "exploding-gradient": {"trends.sites_start": {"flow_range": 14.0, "flow_slope": -0.7}},
    "saturated-activations": {"trends.saturated": {"y (tanh)": 0.95}, "trends.saturated_start": {"y (tanh)": 0.9}},
    "loss-driven-up": {"trends.losses_looked_at": 20, "trends.driven_up": 20},
    "targets-broadcast": {"trends.losses_told": 3, "trends.losses_of_all_pairs": 3},
    "unnormalized-targets": {"probes.predictions": {
        "target_mean": 1e4, "target_std": 30.0, "answer_mean": 9.0, "answer_std": 1.0, "explained": -9e4,
    }},
    "gradients-accumulate": {"trends.looked_at": 20, "trends.left_over": 20},
    "probabilities-as-scores": {"probes.capacity": {"floor_of_shares": 0.74, "shares_add_up": True}},
    "dead-units": {"trends.dead": {"x (relu)": 1.0}},
    "initialization-too-small": {"probes.start.scale": {"x": 1e-4, "y": 1e-4}},
    "initialization-too-large": {"probes.start.scale": {"x": 12.0, "y": 9.0}, "probes.start.loss": 40.0},
    "symmetric-initialization": {"probes.start.symmetric": {"x": 1.0}},
    "untrained-parameters": {"trends.without_update": ["x"]},
    "unnormalized-inputs": {"probes.inputs.numbers.features.columns": [{"column": 0, "skew": 0.4, "offset": 400.0}]},
    "constant-columns": {"probes.inputs.numbers.features.constant": [1]},
    "skewed-columns": {"probes.inputs.numbers.features.columns": [{"column": 0, "skew": 20.0}]},
    "embedding-collapse": {"probes.representations.embeddings.embedding.used_cosine": 0.999},
    "anisotropic-embeddings": {"probes.representations.embeddings.embedding.used_cosine": 0.9},
    "attention-collapse": {"probes.attention.sites": [{"name": "a", "peaked": [1.0, 0.99], "entropy": [0.0, 0.01]}]},
    "padding-not-masked": {"probes.padding.padding_leak": 0.3},
    "future-leak": {"probes.padding.future_leak": 0.3},
    "dropout-in-evaluation": {"probes.modes.random_in_evaluation": 0.2},
    "over-fitting": {"trends.valid_rise": 1.5, "trends.valid_rise_of_start": 0.7, "trends.valid_best_at": 0.2},
    "capacity-too-small": {"facts.width": 1, "probes.capacity.train_loss": 1.5},
    "label-noise": {"probes.labels.noise_share": 0.4, "probes.labels.disagreement": 0.5},
    "majority-class": {"probes.predictions.prediction_entropy": 0.0, "probes.predictions.top_prediction_share": 1.0},
    "never-predicted": {"probes.predictions.never_predicted": [[1, 200]]},
    "leaking-duplicates": {"facts.data.valid_in_train": 0.5},
    "duplicate-examples": {"facts.data.duplicates": 0.9},
    "conflicting-labels": {"facts.data.conflicts": 0.6},
    "validation-too-small": {"facts.num_valid": 12},
    "not-shuffled": {"probes.order.label_clumping": 30.0, "probes.order.one_label_share": 0.95},
}  # fmt: skip


def changed(changes):
    found = copy.deepcopy(HEALTHY)
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = found
        for name in parents:
            place = place[name]
        place[last] = value
    return findings_of(found["facts"], found["trends"], found["probes"])


# What looks like a fault and is none: path -> value.
WELL = {
    "gates that a training which has learned has shut": {
        "probes.activations": {"gate_saturated": {"cell": 0.9}}, "probes.start.gate_saturated": {"cell": 0.0}
    },
    "attention that has become sharp": {
        "probes.attention.sites": [{"name": "a", "peaked": [1.0, 0.99], "entropy": [0.0, 0.01]}],
        "trends.entropy_start": {"a (attention)": 0.98},
    },
    "frequent tokens of a language model": {
        "facts.num_classes": None, "probes.predictions.prediction_entropy": 0.1,
    },
    "a loss at rest that rounds up and down": {
        "facts.full_batch": True, "trends.ups_late": 0.5, "trends.roughness": 0.02, "trends.loss_end": 1e-4,
    },
    "losses that are driven down": {
        "trends.losses_looked_at": 20, "trends.driven_up": 0, "trends.losses_told": 3, "trends.losses_negative": 0,
    },
    "large targets that are answered": {"probes.predictions": {
        "target_mean": 1e4, "target_std": 30.0, "answer_mean": 1e4, "answer_std": 20.0, "explained": 0.6,
    }},
    "accumulated micro-batches": {"trends.looked_at": 20, "trends.left_over": 0},
}  # fmt: skip


def test_healthy_evidence_calls_for_nothing():
    assert changed({}) == []
    assert findings_of({}, {}, {}) == []


@pytest.mark.parametrize(("end", "expected"), [(0.3, []), (1.7, ["unnormalized-inputs"])])
def test_large_inputs_are_a_fault_where_nothing_was_learned(end, expected):
    columns = {"features": {"columns": [{"column": 0, "std": 40.0}], "scale_range": 1.0, "constant": []}}
    case = {"probes.inputs.numbers": columns, "trends.loss_end": end, "probes.capacity": {"train_loss": end}}
    assert [one.name for one in changed(case)] == expected


@pytest.mark.parametrize(("share", "disagreement", "expected"), [
    (0.135, 0.152, [Severity.NOTE]),  # an eighth of the labels changed, a model that is else right
    (0.207, 0.303, []),  # as many, one that is wrong about a fifth of the right ones
    (0.224, 0.293, []),  # none
    (0.09, 0.1, []),
    (0.26, 0.19, [Severity.NOTE]),
    (0.3, 0.32, [Severity.WARNING]),
])  # fmt: skip
def test_some_label_noise_is_told_where_the_linear_model_makes_few_mistakes(share, disagreement, expected):
    case = {"noise_share": share, "disagreement": disagreement, "rarer": 0.5}
    assert [one.severity for one in changed({"probes.labels": case})] == expected
    if expected == [Severity.NOTE]:  # one label for nearly all, which a linear model answers always
        assert changed({"probes.labels": case | {"rarer": 1.1 * disagreement}}) == []


def test_a_note_explains_nothing():
    some = {"probes.labels": {"noise_share": 0.135, "disagreement": 0.152, "rarer": 0.5}}
    found = changed({**some, **SICK["over-fitting"]})
    assert [one.name for one in found] == ["over-fitting", "label-noise"]


@pytest.mark.parametrize(("gain", "expected"), [(0.4, Severity.WARNING), (0.01, Severity.ERROR)])
def test_labels_that_teach_nothing_are_an_error(gain, expected):
    (found,) = changed({**SICK["label-noise"], "probes.predictions.accuracy_over_majority": gain})
    assert (found.name, found.severity) == ("label-noise", expected)


@pytest.mark.parametrize(("optimizer", "is_full", "expected"), [
    ("lbfgs", False, {"batch_size": 0, "accumulate": None}),
    ("newton-cg", False, {"batch_size": 0, "accumulate": None}),
    ("lbfgs", True, {"lr": 9e-5}),
    ("gradient", False, {"lr": 9e-5}),
])  # fmt: skip
def test_a_method_for_one_function_is_given_one(optimizer, is_full, expected):
    case = {"trends.loss_end": 9.0, "facts.optimizer": optimizer, "facts.full_batch": is_full, "facts.lr": 3e-3}
    (found,) = changed(case)
    assert (found.name, found.repair.options) == ("learning-rate-too-high", expected)


def test_a_rate_that_clipping_has_held_back():
    (found,) = changed({"probes.rate.critical_factor_start": 0.06, "trends.level_rise": 8.0, "facts.optimizer": "sgd"})
    assert (found.name, found.repair.options) == ("learning-rate-too-high", {"lr": 2.2e-5})


@pytest.mark.parametrize("name", WELL)
def test_what_looks_like_a_fault(name):
    assert changed(WELL[name]) == []


@pytest.mark.parametrize(("end", "expected"), [(0.3, Severity.WARNING), (1.7, Severity.ERROR)])
def test_what_gradients_do_is_no_error_where_the_training_has_learned(end, expected):
    flow = {"flow_range": -14.0, "flow_slope": 2.0}
    (found,) = changed({"trends.sites_start": flow, "trends.loss_end": end, "probes.capacity": {"train_loss": end}})
    assert (found.name, found.severity) == ("vanishing-gradient", expected)


@pytest.mark.parametrize(("right", "expected"), [(0.91, Severity.WARNING), (0.7, Severity.ERROR)])
def test_over_fitting_by_what_weights_are_kept_by(right, expected):
    rise = {"trends.valid_rise": 0.8, "trends.valid_rise_of_start": 0.5, "trends.num_evaluations": 9}
    (found,) = changed({**rise, "trends.right_best": 0.915, "trends.right_end": right})
    assert (found.name, found.severity) == ("over-fitting", expected)


SENTENCES = [
    ("batch-too-small", {"probes.gradients.noise_scale": None, "probes.gradients.noise_trace": 4.0}, "the noise hides"),
    ("batch-too-small", {"probes.gradients.noise_scale_low": 191.1}, "equal at about 300 (190 or more)"),
    ("batch-too-large", {"probes.gradients.noise_scale": 1.24}, "equal at about 1.2."),
    ("learning-rate-too-high", {"probes.rate.critical_factor_start": 0.0}, "no step lowers the loss that is 0.001"),
    ("plateau-at-saddle", {"trends.gain_at_end": -0.004}, "and rose by 0.40% a tenth of the run at the end"),
    ("plateau-at-saddle", {"trends.gain_at_end": 0.004}, "and fell by 0.40% a tenth of the run at the end"),
    ("untrained-parameters", {"trends.not_in_optimizer": ["a.weight"]}, "1 parameter that the optimizer does not have"),
    ("untrained-parameters", {}, "1 layer with a gradient that never changed: x."),
    ("capacity-too-small", {}, "have 1 number for 6 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "more", "expected"), SENTENCES)
def test_evidence_says_what_was_measured(name, more, expected):
    (found,) = changed({**SICK[name], **more})
    assert found.name == name
    assert expected in found.evidence


def test_weights_that_are_frozen_in_a_run_without_its_history():
    facts = {**HEALTHY["facts"], "is_fresh": True}
    (found,) = findings_of(facts, {}, {"gradients": {"frozen": ["x"], "frozen_share": 0.9}})
    assert found.evidence == "90% of all weights are frozen at their start."


@pytest.mark.parametrize(("rarest", "is_weighed"), [(0.2, False), (0.01, True)])
def test_classes_are_weighed_where_they_are_not_even(rarest, is_weighed):
    labels = {"probes.predictions.top_label_share": 0.3, "probes.predictions.rarest_share": rarest}
    (found,) = changed({**SICK["majority-class"], **labels})
    assert ("class_weights" in found.repair.options) == is_weighed
    assert found.repair.options["epochs"] == 16.0


def test_every_kind_has_a_case():
    assert SICK.keys() == KINDS.keys()


@pytest.mark.parametrize("name", SICK)
def test_finding(name):
    found = changed(SICK[name])
    assert [one.name for one in found] == [name]
    one = found[0]
    assert one.strength >= 1.0
    assert one.evidence.endswith(".")
    assert any(character.isdigit() for character in one.evidence), "evidence has a number"
    assert one.repair.options.keys() <= OPTIONS.keys()
    assert one.repair.options or one.repair.action in ACTIONS
    assert one.figures.keys() >= one.thresholds.keys()
    plain = one.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert {"name", "severity", "evidence", "repair"} <= plain.keys()


def test_weights_that_start_at_zero_and_have_left_it_are_no_trouble():
    """As those of a linear model, whose outputs have gradients of their own."""
    start = {"scale": {"weight": 0.0}, "symmetric": {"weight": 1.0}, "zero": {"weight": 1.0}}
    case = {f"probes.start.{name}": value for name, value in start.items()}
    left = {"probes.activations": {"weights": {"weight": {"symmetric": 0.1}}}}
    assert changed({**case, **left}) == []
    stuck = {"probes.activations": {"weights": {"weight": {"symmetric": 1.0}}}}
    assert [one.name for one in changed({**case, **stuck})] == ["symmetric-initialization"]


@pytest.mark.parametrize("name", ["initialization-too-small", "initialization-too-large"])
def test_pretrained_weights_are_not_drawn(name):
    assert name in {one.name for one in changed(SICK[name])}
    assert name not in {one.name for one in changed({**SICK[name], "facts.model": "hf:models/minilm"})}


def test_momentum_is_lowered_where_the_optimizer_has_it():
    case = {**SICK["momentum-too-high"], "facts.optimizer": "muon"}
    own = {"optimizer_options": {"momentum": 0.999, "nesterov": False}}
    (muon,) = changed({**case, "facts.options": own})
    assert muon.repair.options == {"optimizer_options": {"momentum": 0.9, "nesterov": False}}
    (adam,) = changed({**case, "facts.optimizer": "adamw", "facts.options": {"optimizer_options": {"eps": 1e-6}}})
    assert adam.repair.options == {"optimizer_options": {"eps": 1e-6, "betas": (0.9, 0.99)}}
    far = {"probes.rate": {"critical_factor_start": 64.0, "best_factor_start": 32.0}, "trends.num_steps": 300}
    (sgd,) = changed({**SICK["momentum-too-high"], **far, "facts.lr": 0.05})
    assert sgd.repair.options["lr"] == 0.1


@pytest.mark.parametrize("part", ["facts", "trends", "probes"])
def test_rules_take_what_is_known_alone(part):
    """Where a part of the evidence is missing, nothing that was healthy becomes a finding."""
    known = {name: HEALTHY[name] if name == part else {} for name in HEALTHY}
    assert findings_of(known["facts"], known["trends"], known["probes"]) == []


def test_what_follows_is_told_with_its_cause():
    found = changed({**SICK["learning-rate-too-high"], **SICK["dead-units"]})
    assert [one.name for one in found] == ["learning-rate-too-high"]
    assert found[0].also == ["dead-units"]


def test_a_run_whose_history_is_lost_still_has_its_weights():
    found = copy.deepcopy(HEALTHY)
    found["trends"] = {"num_steps": 0}
    found["probes"]["rate"]["critical_factor_start"], found["probes"]["weights"]["moved"] = 1e-3, 310.0
    found["probes"]["activations"] = {"saturated": {"y (tanh)": 1.0}}
    found["probes"]["capacity"]["train_loss"] = 1.7
    told = findings_of(found["facts"], found["trends"], found["probes"])
    assert [one.name for one in told] == ["learning-rate-too-high"]
    assert told[0].also == ["saturated-activations"]


def test_the_worst_comes_first():
    def one(name, severity, strength):
        return Finding(name, severity, "1.", Repair("x"), strength=strength)

    found = [one("duplicate-examples", Severity.NOTE, 9.0), one("label-noise", Severity.WARNING, 1.0),
             one("future-leak", Severity.ERROR, 1.0), one("skewed-columns", Severity.WARNING, 2.0)]  # fmt: skip
    names = [each.name for each in ordered(found)]
    assert names == ["future-leak", "skewed-columns", "label-noise", "duplicate-examples"]


def test_kinds_explain_kinds_that_there_are():
    for name, kind in KINDS.items():
        assert set(kind.explains) <= KINDS.keys() - {name}, name


def test_limits_are_used():
    assert limit("dead") == LIMITS["dead"]
    text = "".join(path.read_text(encoding="utf-8") for path in Path(symptoms.__path__[0]).glob("*.py"))
    assert [name for name in LIMITS if text.count(f'"{name}"') < 2] == []


@pytest.mark.parametrize(("steps", "full_batch", "expected"), [(12, False, False), (12, True, True), (40, False, True)])
def test_a_plateau_takes_some_steps_to_show(steps, full_batch, expected):
    trends = {"num_steps": steps, "drop": 0.02, "gain_at_end": 0.001}
    probes = {"spectrum": {"relative_negative": 0.3, "certified_negative": True}}
    found = findings_of({"full_batch": full_batch}, trends, probes)
    assert ("plateau-at-saddle" in [finding.name for finding in found]) is expected
