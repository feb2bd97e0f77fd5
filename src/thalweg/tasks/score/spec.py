"""Scoring before its code is imported."""

from thalweg.tasks.spec import ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="score",
    task="thalweg.tasks.score.task:Score",
    columns="thalweg.tasks.score.columns:COLUMNS",
    sample="phrases",
    models={
        "bag": ModelSpec(
            "thalweg.models.presets:pooled_bag",
            "bag",
            pair_builder="thalweg.models.presets:pair_bag",
            defaults={"width": 256, "lr": 3e-3},
            solver="factored-newton",
        ),
        "lstm": ModelSpec(
            "thalweg.models.presets:pooled_lstm",
            "padded",
            pair_builder="thalweg.models.presets:pair_lstm",
            defaults={"dropout": 0.3, "epochs": 6.0},
        ),
        "transformer": ModelSpec(
            "thalweg.models.presets:pooled_transformer",
            "padded",
            pair_builder="thalweg.models.presets:pair_transformer",
            defaults={"epochs": 8.0},
        ),
    },
    defaults={"model": "bag", "bigrams": 0},
    traits=frozenset({"text", "tokens", "bigrams", "pairs"}),
    online="thalweg.online.regressor:OnlineRegressor",
)
