"""What a frozen pretrained model says of a text: numbers that a linear model takes as features, computed once."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, final

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from thalweg import noise
from thalweg.data.arrays.ragged import Ragged, Spill
from thalweg.data.text.pretrained_folder import PretrainedFolder, located, weight_files
from thalweg.errors import InputError
from thalweg.models.pretrained import POOLINGS, Pretrained, network_of, read_weights, stored
from thalweg.models.room import Room
from thalweg.storage.cache import DIGEST, VectorCache
from thalweg.storage.forms import AGAIN

ENCODER: Final = "encoder.safetensors"  # in a run's folder
ROWS: Final = 32  # of a batch, filled up, so that what comes of a text does not depend on the others in it
GRAIN: Final = 8  # to a multiple of which a batch is as long
PAUSE: Final = 10.0  # seconds between two sentences about how far it is

Tell = Callable[[str], None]


@final
class EncoderFeatures:
    r"""The states of texts in a pretrained network that is not trained, as features of a linear model.

    The features are the pooled hidden states, scaled to length one, so that a penalty means the same for every model.
    They are kept on disk (`thalweg.storage.cache`) by the ids of the text, the weights and the pooling.

    Args:
        pretrained: the model without its weights.
        network: with its weights.
        device: where to compute.
    """

    bigrams = ()  # those of bags of words are features, too

    def __init__(self, pretrained: PretrainedFolder, network: Pretrained, device: torch.device) -> None:
        self.pretrained, self.network, self.device = pretrained, network.eval().to(device), device
        network.requires_grad_(requires_grad=False)
        self.num_features = network.width
        self.vocabulary_size = pretrained.tokenizer.vocabulary_size
        self.tell: Tell | None = None  # takes sentences while many texts are read
        settings = {"weights": _digest(network), "config": pretrained.config, "pooling": pretrained.pooling}
        self._cache = VectorCache(json.dumps(settings, sort_keys=True), network.width)

    @classmethod
    def open(cls, pretrained: PretrainedFolder, name: str, device: str) -> "EncoderFeatures":
        """Make one of a pretrained model and the weights in the folder that `name` names."""
        folder = located(name)
        with Room(stored(weight_files(folder))):
            network = network_of(pretrained.config)
        read_weights(network, folder)
        return cls(pretrained, Pretrained(network, pooling=POOLINGS[pretrained.pooling]), _device(device))

    @classmethod
    def load(cls, pretrained: PretrainedFolder, folder: Path, device: str) -> "EncoderFeatures":
        """Read it from a run's folder; an InputError names a file that is missing or damaged."""
        path = folder / ENCODER
        try:
            weights = safetensors.torch.load_file(path)
        except FileNotFoundError:
            raise InputError(f"{path} is missing; {AGAIN}.") from None
        except (OSError, safetensors.SafetensorError) as error:
            raise InputError(f"{path} is damaged ({error}); {AGAIN}.") from None
        with noise.borrowed(), Room(weights):
            network = network_of(pretrained.config)
        own = network.state_dict()
        if own.keys() != weights.keys() or any(own[name].shape != weights[name].shape for name in own):
            raise InputError(f"{path} is damaged (it is of another network than its configuration); {AGAIN}.")
        network.load_state_dict(weights)
        return cls(pretrained, Pretrained(network, pooling=POOLINGS[pretrained.pooling]), _device(device))

    def files(self) -> dict[str, bytes]:
        """Return what `load` reads."""
        weights = {name: tensor.cpu().contiguous().clone() for name, tensor in self.network.model.state_dict().items()}
        return {ENCODER: safetensors.torch.save(weights)}

    def described(self) -> str:
        """Return what the features are, for statements about them."""
        how = {
            "mean": "mean of the states of its tokens",
            "cls": "state of its first token",
            "last": "state of its last token",
        }
        state, network = how[self.pretrained.pooling], self.pretrained.config["model_type"]
        return f"features (the {state} in a pretrained {network} that is not trained, scaled to length one)"

    def transform(self, ids: Ragged, spill: Spill) -> tuple[Ragged, Ragged]:
        """Return the features of sequences of ids as bags: numbers of features, and what each is."""
        del spill
        vectors = self.vectors(ids)
        lengths = np.full(len(vectors), self.num_features, dtype=np.int64)
        tokens = np.tile(np.arange(self.num_features, dtype=np.int32), len(vectors))
        return Ragged.from_lengths(tokens, lengths), Ragged.from_lengths(vectors.reshape(-1), lengths)

    def vectors(self, ids: Ragged) -> np.ndarray:
        """Return the features of sequences of ids, float32 `[texts, width]`: those that are kept, or computed anew."""
        keys = [
            hashlib.blake2b(np.ascontiguousarray(row, dtype="<i4").tobytes(), digest_size=DIGEST).digest()
            for row in ids
        ]
        found, missing = self._cache.find(keys)
        if not len(missing):
            return found
        first = {keys[place]: place for place in reversed(missing.tolist())}  # equal texts are read once
        wanted = np.array(sorted(first.values()), dtype=np.int64)
        computed = self._computed(ids.take(wanted))
        self._cache.put([keys[place] for place in wanted.tolist()], computed)
        places = {keys[place]: row for row, place in enumerate(wanted.tolist())}
        for place in missing.tolist():
            found[place] = computed[places[keys[place]]]
        return found

    def _computed(self, ids: Ragged) -> np.ndarray:
        """Return the features of all sequences, each batch of one length or nearly."""
        vectors = np.zeros((len(ids), self.num_features), dtype=np.float32)
        order = np.argsort(-ids.lengths, kind="stable")
        began = said = time.monotonic()
        total, done = int(ids.lengths.sum()), 0
        with torch.inference_mode():
            for rows in _grouped(order, ids.lengths):
                vectors[rows] = self._batch(ids.take(rows))
                done += int(ids.lengths[rows].sum())
                if self.tell is not None and time.monotonic() - said > PAUSE:
                    said = time.monotonic()
                    left = (said - began) * (total - done) / done
                    self.tell(
                        f"The pretrained model has read {done / total:.0%} of the texts; about {left:.0f} s left."
                    )
        if not np.isfinite(vectors).all():
            raise InputError("The pretrained model makes NaN or infinite numbers of some texts; it cannot be used.")
        return vectors

    def _batch(self, ids: Ragged) -> np.ndarray:
        longest = math.ceil(int(ids.lengths.max()) / GRAIN) * GRAIN
        longest = min(longest, self.pretrained.num_positions or longest)
        tokens = np.full((ROWS, longest), self.pretrained.tokenizer.pad, dtype=np.int64)
        mask = np.zeros((ROWS, longest), dtype=bool)
        for row in range(ROWS):
            sequence = ids[min(row, len(ids) - 1)]
            tokens[row, : len(sequence)], mask[row, : len(sequence)] = sequence, True
        hidden: Tensor = self.network(*(torch.from_numpy(one).to(self.device) for one in (tokens, mask)))
        hidden = hidden[: len(ids)].double()
        length = torch.linalg.vector_norm(hidden, dim=1, keepdim=True).clamp_min(1e-12)
        return (hidden / length).float().cpu().numpy()


def _grouped(order: np.ndarray, lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows in batches, those of one rounded length together."""
    rounded = -(-lengths[order] // GRAIN)
    borders = np.flatnonzero(np.diff(rounded)) + 1
    for part in np.split(order, borders):
        for start in range(0, len(part), ROWS):
            yield part[start : start + ROWS]


def _digest(network: Pretrained) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(network.model.state_dict().items()):
        total.update(f"{name}{list(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
    return total.hexdigest()


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
