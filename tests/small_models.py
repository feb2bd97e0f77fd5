"""Small models of Hugging Face, randomly initialized and saved in a folder, with a tokenizer of their own."""

import functools
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

TEXTS = (
    "the film was a delight from the first scene to the last",
    "a dull and lifeless film that nobody should watch",
    "good acting, a bad script, and a cat",
    "we went to the sea; it was cold",
)
SIZES = {"vocab_size": 300}
KINDS = {
    "bert": ("BertConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 32, "max_position_embeddings": 64}),
    "distilbert": ("DistilBertConfig", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32,
                   "max_position_embeddings": 64}),
    "roberta": ("RobertaConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 32, "max_position_embeddings": 66, "type_vocab_size": 1}),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    "llama": ("LlamaConfig", {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
              "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64}),
    "t5": ("T5Config", {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
           "decoder_start_token_id": 0}),
    "t5-untied": ("T5Config", {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2,
                  "decoder_start_token_id": 0, "tie_word_embeddings": False}),
    "marian": ("MarianConfig", {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
               "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
               "max_position_embeddings": 64, "decoder_start_token_id": 0}),
}  # fmt: skip
WRITERS = {"gpt2": "AutoModelForCausalLM", "llama": "AutoModelForCausalLM", "t5": "AutoModelForSeq2SeqLM",
           "t5-untied": "AutoModelForSeq2SeqLM", "marian": "AutoModelForSeq2SeqLM"}  # fmt: skip


def small_tokenizer(kind: str) -> tokenizers.Tokenizer:
    """Return a tokenizer that puts around a text what models of a kind expect."""
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES["vocab_size"], special_tokens=["<pad>", "<unk>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    inner.train_from_iterator(TEXTS, trainer)
    if kind in ("bert", "distilbert", "roberta"):
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    elif kind in ("t5", "t5-untied", "marian"):
        inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    return inner


def save_small(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """Save a model of a kind in a folder, and return it."""
    import transformers

    name, sizes = KINDS[kind]
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = getattr(transformers, name)(**SIZES, **sizes, **special)
    auto = getattr(transformers, WRITERS.get(kind, "AutoModel"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(config)
        if kind == "t5-untied":
            model.lm_head.weight = torch.nn.Parameter(torch.randn(SIZES["vocab_size"], sizes["d_model"]) / 4)
    model.save_pretrained(folder)
    small_tokenizer(kind).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}'
    )
    return folder


def saved_models(tmp_path_factory):
    """Return what gives the name of a saved model of a kind, as `--model` takes it; each is saved once."""
    return functools.cache(lambda kind: f"hf:{save_small(kind, tmp_path_factory.mktemp(kind))}")
