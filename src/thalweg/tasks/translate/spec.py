"""Translation before its code is imported."""

from thalweg.tasks.spec import TUNED, ModelSpec, TaskSpec

SPEC = TaskSpec(
    name="translate",
    task="thalweg.tasks.translate.task:Translate",
    columns="thalweg.tasks.translate.columns:COLUMNS",
    sample="numbers",
    models={
        "lstm": ModelSpec("thalweg.models.presets:translate_lstm", "translate"),
        "transformer": ModelSpec("thalweg.models.presets:translate_transformer", "translate", defaults={"lr": 2e-3}),
    },
    pretrained=ModelSpec("thalweg.models.presets:translate_pretrained", "translate", defaults=TUNED),
    defaults={
        "model": "transformer", "tokenizer": "bpe", "vocabulary_size": 4000, "normalize": ("nfc",), "max_length": 64,
        "tie": True, "tie_source": True, "label_smoothing": 0.1, "epochs": 12.0,
    },
    traits=frozenset({"text", "lengths", "tokens", "classes", "writes", "translates"}),
    answers=frozenset({
        "top", "beam", "length_penalty", "min_length", "temperature", "top_p", "top_k", "samples", "repetition_penalty",
        "no_repeat", "prefix", "seed", "score",
    }),
)  # fmt: skip
