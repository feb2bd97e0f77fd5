"""Scoring before its code is imported."""

from typing import Any

from thalweg.tasks.spec import READ_BY_ITSELF, TUNED, ModelSpec, TaskSpec

_LINEAR = "thalweg.models.presets:pooled_linear"  # a pair is one bag of features, so its model is that of a text


def _model(name: str, layout: str, defaults: dict[str, Any], solver: str = "") -> ModelSpec:
    single, pair = (f"thalweg.models.presets:{kind}_{name}" for kind in ("pooled", "pair"))
    return ModelSpec(single, layout, pair, defaults, solver)


SPEC = TaskSpec(
    name="score",
    task="thalweg.tasks.score.task:Score",
    columns="thalweg.tasks.score.columns:COLUMNS",
    sample="phrases",
    models={
        "linear": ModelSpec(_LINEAR, "joint", _LINEAR, solver="linear-newton", solves_by_default=True),
        "bag": _model("bag", "bag", {"width": 256, "lr": 3e-3}, solver="factored-newton"),
        "lstm": _model("lstm", "padded", {"dropout": 0.3, "epochs": 6.0}),
        "transformer": _model("transformer", "padded", {"epochs": 8.0}),
    },
    pretrained=_model("pretrained", "subwords", {**TUNED, "dropout": 0.0}),
    frozen=ModelSpec(_LINEAR, "encoded", _LINEAR, READ_BY_ITSELF, "linear-newton", solves_by_default=True),
    defaults={"model": "linear", "bigrams": 0},
    traits=frozenset({"text", "lengths", "tokens", "bigrams", "pairs", "taught"}),
    online="thalweg.online.regressor:OnlineRegressor",
)
