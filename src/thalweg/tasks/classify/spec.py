"""Classification before its code is imported."""

from thalweg.tasks.spec import ModelSpec, TaskSpec


def _solved(name: str, solver: str) -> ModelSpec:
    return ModelSpec(f"thalweg.models.presets:pooled_{name}", "bag", solver=solver, solves_by_default=True)


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
    defaults={"model": "bag"},
    traits=frozenset({"text", "tokens", "bigrams", "classes", "labels"}),
    answers=frozenset({"top", "threshold"}),
    online="thalweg.online.classifier:OnlineClassifier",
)
