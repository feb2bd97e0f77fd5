"""Tagging before its code is imported."""

from thalweg.tasks.spec import TUNED, ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="tag",
    task="thalweg.tasks.tag.task:Tag",
    columns="thalweg.tasks.tag.columns:COLUMNS",
    sample="tokens",
    models={
        "linear": ModelSpec(
            "thalweg.models.presets:sparse_linear",
            "features",
            defaults={
                "optimizer": "lbfgs",
                "line_search": "armijo",
                "epochs": 60.0,
                "evaluate_every": 10,
            },
        ),
        "lstm": ModelSpec("thalweg.models.presets:tokens_lstm", "padded"),
        "transformer": ModelSpec(
            "thalweg.models.presets:tokens_transformer", "padded", defaults={"lr": 1e-3, "dropout": 0.1, "epochs": 8.0}
        ),
    },
    pretrained=ModelSpec(
        "thalweg.models.presets:tokens_pretrained",
        "subwords",
        defaults={**TUNED, "head": "softmax"},
    ),
    defaults={
        "model": "linear",
        "head": "crf",
        "batch_size": 32,
        "normalize": ("nfc",),
        "dropout": 0.3,
        "lr": 5e-3,
        "epochs": 5.0,
    },
    traits=frozenset({"text", "lengths", "classes", "chain"}),
    answers=frozenset({"tokens"}),
)
