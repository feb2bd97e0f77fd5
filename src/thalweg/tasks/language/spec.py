"""Language models before their code is imported."""

from thalweg.tasks.spec import TUNED, ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="language",
    task="thalweg.tasks.language.task:Language",
    columns="thalweg.tasks.language.columns:COLUMNS",
    sample="manual",
    models={
        "lstm": ModelSpec("thalweg.models.presets:causal_lstm", "causal"),
        "transformer": ModelSpec("thalweg.models.presets:causal_transformer", "causal"),
    },
    pretrained=ModelSpec("thalweg.models.presets:causal_pretrained", "causal", defaults=TUNED),
    defaults={
        "model": "lstm", "tokenizer": "bpe", "vocabulary_size": 4000, "normalize": (), "max_length": 64, "tie": True,
        "batch_size": 16, "epochs": 8.0, "width": 256, "hidden": 256,
    },
    traits=frozenset({"text", "tokens", "classes", "writes", "running"}),
    answers=frozenset({
        "length", "min_length", "temperature", "top_p", "top_k", "samples", "repetition_penalty", "no_repeat", "stop",
        "seed", "score",
    }),
)  # fmt: skip
