"""Classification before its code is imported."""

from thalweg.tasks.spec import ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="classify",
    task="thalweg.tasks.classify.task:Classify",
    columns="thalweg.tasks.classify.columns:COLUMNS",
    sample="docstrings",
    models={
        "bag": ModelSpec("thalweg.models.presets:pooled_bag", "bag", solver="factored-newton", solves_by_default=True),
        "mlp": ModelSpec("thalweg.models.presets:pooled_mlp", "bag"),
        "lstm": ModelSpec("thalweg.models.presets:pooled_lstm", "padded"),
        "gru": ModelSpec("thalweg.models.presets:pooled_gru", "padded"),
        "transformer": ModelSpec("thalweg.models.presets:pooled_transformer", "padded"),
    },
    defaults={"model": "bag"},
    traits=frozenset({"text", "tokens", "bigrams", "classes"}),
    online="thalweg.online.classifier:OnlineClassifier",
)
