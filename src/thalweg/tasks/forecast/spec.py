"""Forecasts before their code is imported."""

from thalweg.tasks.spec import ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="forecast",
    task="thalweg.tasks.forecast.task:Forecast",
    columns="thalweg.tasks.forecast.columns:COLUMNS",
    sample="sunspots",
    models={
        "mlp": ModelSpec("thalweg.models.presets:window_mlp", "window"),
        "lstm": ModelSpec("thalweg.models.presets:window_lstm", "window", defaults={"epochs": 100.0}),
    },
    defaults={
        "model": "mlp", "lags": 10, "scaling": "range", "activation": "tanh", "hidden": 16, "width": 16, "dropout": 0.0,
        "weight_decay": 0.0, "epochs": 200.0, "batch_size": 32, "lr": 0.01, "normalize": (),
    },
    traits=frozenset({"series"}),
)  # fmt: skip
