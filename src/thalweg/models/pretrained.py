"""A Hugging Face model as one of ours (extra `hub`)."""

import importlib
import os
from typing import Any, final

from torch import Tensor, nn

from thalweg.errors import InputError
from thalweg.models import pool
from thalweg.models.pool import Pooling


@final
class Pretrained(nn.Module):
    """Hidden states of a pretrained encoder, from a loaded model or a folder on this machine; nothing is downloaded.

    Args:
        model: a module called with `input_ids` and `attention_mask` whose result has `last_hidden_state`, and whose
            `config` has `hidden_size` (what `transformers.AutoModel` gives), or the folder to load one from.
        pooling: from one state per token to what the task needs; see `thalweg.models.pool`.

    Attributes:
        width: size of the hidden states.

    Raises:
        InputError: if a folder is given and it is none, or `transformers` is not installed.

    Do not mix tokenizers: the ids must come from the pretrained model's own.
    """

    def __init__(self, model: nn.Module | str | os.PathLike[str], *, pooling: Pooling = pool.every) -> None:
        super().__init__()
        self.model: nn.Module = model if isinstance(model, nn.Module) else _load(model)
        config: Any = self.model.config
        self.width: int = config.hidden_size
        self.pooling = pooling

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states `[batch, time, width]`, or `[batch, width]` if pooled.

        Args:
            tokens: ids of the model's own tokenizer, int64 `[batch, time]`.
            mask: True at real tokens `[batch, time]`; None: all are.
        """
        attention_mask = None if mask is None else mask.long()
        hidden = self.model(input_ids=tokens, attention_mask=attention_mask).last_hidden_state
        return self.pooling(hidden, mask)


def _load(folder: str | os.PathLike[str]) -> nn.Module:
    if not os.path.isdir(folder):
        raise InputError(f"{os.fspath(folder)}: expected a folder with a pretrained model; there is none.")
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise InputError(
            "A pretrained model needs the package `transformers`; install it with: pip install 'thalweg[hub]'."
        ) from error
    return transformers.AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
