"""Classification before its code is imported."""

from collections.abc import Mapping
from typing import Any

from thalweg.tasks.spec import READ_BY_ITSELF, TUNED, ModelSpec, TaskSpec


def _solved(name: str, solver: str, layout: str = "bag", defaults: Mapping[str, Any] | None = None) -> ModelSpec:
    builder = f"thalweg.models.presets:pooled_{name}"
    return ModelSpec(builder, layout, defaults=defaults or {}, solver=solver, solves_by_default=True)


SPEC = TaskSpec(
    name="classify",
    task="thalweg.tasks.classify.task:Classify",
    columns="thalweg.tasks.classify.columns:COLUMNS",
    sample="docstrings",
    models={
        "linear": _solved("linear", "linear-newton"),
        "bag": _solved("bag", "factored-newton"),
        "mlp": ModelSpec("thalweg.models.presets:pooled_mlp", "bag"),
        "lstm": ModelSpec("thalweg.models.presets:pooled_lstm", "padded"),
        "gru": ModelSpec("thalweg.models.presets:pooled_gru", "padded"),
        "transformer": ModelSpec("thalweg.models.presets:pooled_transformer", "padded"),
    },
    pretrained=ModelSpec("thalweg.models.presets:pooled_pretrained", "subwords", defaults=TUNED),
    frozen=_solved("linear", "linear-newton", "encoded", READ_BY_ITSELF),
    defaults={"model": "bag"},
    traits=frozenset({"text", "lengths", "tokens", "bigrams", "classes", "labels", "taught"}),
    answers=frozenset({"top", "threshold"}),
    online="thalweg.online.classifier:OnlineClassifier",
)
