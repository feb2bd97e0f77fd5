"""Forecasts before their code is imported."""

from thalweg.tasks.spec import ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="forecast",
    task="thalweg.tasks.forecast.task:Forecast",
    columns="thalweg.tasks.forecast.columns:COLUMNS",
    sample="sunspots",
    models={
        "ar": ModelSpec(  # it chooses its penalty inside the training part
            "thalweg.models.presets:linear_window", "differences", defaults={"select": "none"},
            solver="least-squares", solves_by_default=True,
        ),
        "mlp": ModelSpec("thalweg.models.presets:window_mlp", "window", defaults={"lags": 10}),
        "lstm": ModelSpec("thalweg.models.presets:window_lstm", "window", defaults={"lags": 10, "epochs": 100.0}),
    },
    network="mlp",
    defaults={
        "model": "ar", "lags": 0, "scaling": "range", "activation": "tanh", "hidden": 16, "width": 16, "dropout": 0.0,
        "weight_decay": 0.0, "epochs": 200.0, "batch_size": 32, "lr": 0.01, "normalize": (),
    },
    traits=frozenset({"series"}),
    answers=frozenset({"length"}),
    examine="thalweg.tasks.forecast.rows.reading:examined",
    examines="columns that hold what others do; moments that are out of order, come twice or are missing",
)  # fmt: skip
