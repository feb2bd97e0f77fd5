"""Model + head + batch as one function of the parameters."""

import contextlib
import copy
import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar, final

import torch
from torch import Tensor, nn

from thalweg import distributed, noise, sharded, vectors
from thalweg.batch import Batch
from thalweg.errors import InputError, require
from thalweg.gradients import Reduction
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead
from thalweg.models.copies import copied
from thalweg.models.exchange import exchanged

Inputs = Tensor | Mapping[str, Tensor]
Result = TypeVar("Result")
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@final
class Objective:
    r"""The loss of a model on one batch, as a function of the parameters.

    With micro-batches $b$, the head's sums $S_b(\theta)$ and counts $n_b$, and penalized weights $w$,

    $$f(\theta) = \frac{\sum_b S_b(\theta)}{\sum_b n_b} + \frac{\text{l2}}{2} \lVert w \rVert^2 .$$

    Sums and counts are added over micro-batches **and ranks**, and divided once; the mean of per-batch means is another
    number whenever the batches hold different numbers of targets.

    Calling it is the standard PyTorch closure (gradients cleared, forward, backward, loss returned), so every
    `torch.optim` optimizer takes it as it is: `optimizer.step(objective)`. When it is evaluated again, all
    micro-batches are replayed with the same random state, so dropout draws the same masks.

    Args:
        model: module that maps inputs to hidden states; on many processes the unwrapped one.
        head: an `AbstractHead`, `nn.CrossEntropyLoss`, `nn.MSELoss` or `nn.BCEWithLogitsLoss`, which keep PyTorch's
            layouts and reductions; a sum is divided by nothing.
        inputs: one tensor, a dictionary of keywords, a `Batch`, or a sequence of `Batch`es (micro-batches).
        targets: what the head compares with, when `inputs` is a tensor or a dictionary.
        mask: True where a target is real, likewise.
        weights: weight of each target, likewise.
        l2: strength of the squared penalty **inside** the loss, >= 0. Not the same as an optimizer's decoupled
            weight decay: adaptive methods rescale this one's gradient, and line searches see it.
        penalized: the tensors `w` under the penalty; None: every trainable matrix (biases and scales are free).
        autocast: type to run the forward pass in, such as `torch.bfloat16`; None: as the parameters are.
        call: called in the model's place, such as `torch.compile(model)`, for gradients of first order.

    Attributes:
        num_values: evaluations of the loss alone.
        num_gradients: evaluations of loss and gradient, and passes that cost as much (the curvature of single layers).
        num_products: products with a Hessian, a Gauss-Newton or a Fisher matrix; each row that every example has in a
            Jacobian counts as one.
        scale: factor on the gradient after the last backward pass, 1.0 or 0-dim: sums are divided by the global count.

    Raises:
        ValueError: for a negative `l2`, for targets missing or given twice, or for no batch at all.

    Example:
        >>> model, x, y = nn.Linear(2, 1, bias=False), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]])
        >>> _ = nn.init.zeros_(model.weight)
        >>> objective = Objective(model, nn.MSELoss(), x, y)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> optimizer.step(objective)
        tensor(1.)
        >>> model.weight.detach()
        tensor([[0.2000, 0.4000]])
    """

    def __init__(
        self,
        model: nn.Module,
        head: AbstractHead | nn.Module,
        inputs: Inputs | Batch | Sequence[Batch],
        targets: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        l2: float = 0.0,
        penalized: Iterable[Tensor] | None = None,
        autocast: torch.dtype | None = None,
        call: Callable[..., object] | None = None,
    ) -> None:
        require(l2 >= 0.0, "Objective(l2=...) must be zero or positive", l2)
        self.model = model
        self.head = as_head(head)
        self.batches, self._positional = _as_batches(inputs, targets, mask, weights)
        self.l2 = l2
        self.autocast = autocast
        self.call = call  # None: the model, whichever that is by then
        self._every = list(dict.fromkeys([*model.parameters(), *self.head.parameters()]))
        if penalized is None:
            penalized = [tensor for tensor in self._every if tensor.dim() >= 2]
        self._penalized = list(dict.fromkeys(penalized)) if l2 > 0.0 else []
        self.num_values = 0
        self.num_gradients = 0
        self.num_products = 0
        self.scale: Tensor | float = 1.0
        self._noise: list[Tensor] | None = None
        # Shared by all objectives that `on` makes, so that it is found out once.
        self._traits: dict[str, bool | None] = {"differentiates inside": False, "sends early": None}

    @property
    def parameters(self) -> list[Tensor]:
        """All tensors of model and head that are trainable now, each once: what gradients and curvature are about."""
        return [tensor for tensor in self._every if tensor.requires_grad]

    @property
    def penalized(self) -> list[Tensor]:
        """The trainable tensors under the penalty."""
        return [tensor for tensor in self._penalized if tensor.requires_grad]

    def on(self, batches: Batch | Sequence[Batch]) -> "Objective":
        """Return the same function on other batches, with counts of its own: a training loop needs one per step."""
        other = copy.copy(self)
        other.batches, _ = _as_batches(batches, None, None, None)
        # Batches of an objective that was made of one tensor.
        other._positional = self._positional and all(set(batch.inputs) == {"inputs"} for batch in other.batches)
        other.num_values = other.num_gradients = other.num_products = 0
        other._noise = None
        return other

    def copied(self, dtype: torch.dtype) -> "Objective":
        """Return the same function of copies of model and head, in evaluation mode and in another type.

        Without autocast, and with counts of its own. Tied tensors stay tied, and those that use the same memory still
        do; what is done to the copy leaves the original alone.
        """
        network = self._network()
        networks = copied(network, dtype).eval()
        partners = dict(zip(map(id, network.parameters()), networks.parameters(), strict=True))
        other = copy.copy(self)
        other.model, other.head = networks["model"], networks["head"]  # type: ignore[assignment]
        other.call = None
        other._every = [partners[id(tensor)] for tensor in self._every]
        other._penalized = [partners.get(id(tensor), tensor) for tensor in self._penalized]
        other.batches = [_ordinary(batch.to(batch.targets.device, dtype)) for batch in self.batches]
        other.num_values = other.num_gradients = other.num_products = 0
        other.autocast, other._noise = None, None
        return other

    def value(self) -> Tensor:
        """Return the loss at the present parameters, a 0-dim tensor without a graph; gradients are left alone."""
        self.num_values += 1

        def sums_and_counts() -> list[Tensor]:
            self._replay_noise()
            return [torch.stack(self.sum_and_count(batch)) for batch in self.batches]

        with noise.alone():
            sums = self.without_graph(sums_and_counts)
        with torch.no_grad():
            total, count = distributed.sum_over_ranks([torch.stack(sums).sum(0)])[0]
            return total / self.head.divisor(count) + self._penalty()

    def value_and_gradient(self) -> tuple[Tensor, list[Tensor]]:
        """Return loss and gradient, one tensor per parameter; the parameters' `.grad` is left alone."""
        held = [parameter.grad for parameter in self._every]
        try:
            loss = self()
            return loss, [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        finally:
            for parameter, gradient in zip(self._every, held, strict=True):
                parameter.grad = gradient

    def __call__(self) -> Tensor:
        """Clear the gradients, run forward and backward, and return the loss: the closure of `torch.optim`."""
        self.num_gradients += 1
        for parameter in self._every:  # frozen ones, too: optimizers move whatever has a gradient left
            parameter.grad = None
        with noise.alone(), torch.enable_grad():
            self._replay_noise()
            if len(self.batches) == 1 and not distributed.is_active():
                total, count = self.sum_and_count(self.batches[0])
                loss = total / self.head.divisor(count)
                loss.backward()
                loss = loss.detach()
            else:
                loss = self._accumulate()
        if self.penalized:
            self._add_penalty_gradient()
            loss = loss + self._penalty()
        return loss

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """Return `parameters` with their names, the model's as they are and the head's after `head.`."""
        return [(_short(name), tensor) for name, tensor in self._network().named_parameters() if tensor.requires_grad]

    def choose(self, what: "str | nn.Module | Iterable[Tensor] | None") -> list[Tensor]:
        """Return some of the parameters: tensors in the order given, otherwise in the order of `parameters`.

        Args:
            what: a pattern for names such as `layers.0.*` or `*.bias` (as file names are matched), a module, the
                tensors themselves, or None for all.

        Raises:
            ValueError: if a tensor is none of the parameters, or nothing is chosen.

        Example:
            >>> objective = Objective(nn.Linear(2, 1), nn.MSELoss(), torch.ones(1, 2), torch.ones(1, 1))
            >>> [tuple(tensor.shape) for tensor in objective.choose("*bias")]
            [(1,)]
        """
        if what is None and not self.parameters:
            raise ValueError("Objective.choose(None): neither the model nor the head has a trainable parameter.")
        if what is None:
            return list(self.parameters)
        if isinstance(what, str):
            chosen = [tensor for name, tensor in self.named_parameters() if fnmatch.fnmatchcase(name, what)]
            if not chosen:
                names = ", ".join(name for name, _ in self.named_parameters())
                raise ValueError(f"Objective.choose({what!r}) fits no trainable parameter; there are: {names}.")
            return chosen
        wanted = vectors.trainable(what.parameters() if isinstance(what, nn.Module) else what)
        positions = {id(tensor): i for i, tensor in enumerate(self.parameters)}
        chosen = [tensor for tensor in wanted if id(tensor) in positions]
        if not chosen or len(chosen) != len(wanted):
            raise ValueError(
                "Objective.choose(...) takes trainable parameters of the model or the head; "
                f"{len(wanted) - len(chosen)} of {len(wanted)} tensors given are none."
            )
        if isinstance(what, nn.Module):
            chosen.sort(key=lambda tensor: positions[id(tensor)])
        return chosen

    def penalties(self, parameters: Iterable[Tensor]) -> list[float]:
        """Return the second derivative of the penalty in each entry of each tensor: `l2` where penalized, else 0."""
        penalized = {id(tensor) for tensor in self.penalized}
        return [self.l2 if id(tensor) in penalized else 0.0 for tensor in parameters]

    def sum_and_count(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed loss of one micro-batch, with a graph, and what it is to be divided by."""
        with self._autocast(batch):
            total, count = sharded.computing(self.model, lambda: self._sum_and_count(batch))
        return total, count.to(total.dtype)

    def _sum_and_count(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.head.loss_from_hidden(self.hidden(batch), batch.targets, batch.mask, batch.weights)

    def prediction(self, batch: Batch) -> Tensor:
        """Return the head's prediction for one micro-batch, with a graph."""
        with self._autocast(batch):
            return self.head(self.hidden(batch))

    def every_tensor(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return all parameters of model and head, frozen ones too, and all their buffers, each once."""
        network = self._network()
        return list(network.parameters()), list(network.buffers())

    def exchange(self, pairs: Sequence[tuple[Tensor, Tensor]], evaluate: Callable[[], Result]) -> Result:
        """Return what `evaluate()` returns while other tensors replace some parameters and buffers.

        Derivatives of checkpointed models must be taken inside `evaluate`, because they call the model again.

        Args:
            pairs: a parameter or buffer, and what replaces it wherever it is used.
            evaluate: calls methods of this objective.
        """
        return exchanged(self._network(), pairs, evaluate)

    def unchanged(self, evaluate: Callable[[], Result]) -> Result:
        """Return what `evaluate()` returns; what it does to buffers, such as running statistics, is done to copies."""
        return self.exchange([(buffer, buffer.clone()) for buffer in self.every_tensor()[1]], evaluate)

    def without_graph(self, evaluate: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Return the tensors that `evaluate()` returns, without a graph.

        A model that differentiates inside its forward pass, as physics-informed ones do, needs a graph for that. It is
        found out by trying, once, so that others pay nothing.
        """
        if not self._traits["differentiates inside"]:
            try:
                with torch.no_grad():
                    return evaluate()
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if "does not require grad" not in str(error):
                    raise
        with torch.enable_grad():
            result = [tensor.detach() for tensor in evaluate()]
        self._traits["differentiates inside"] = True
        return result

    def require_determinism(self) -> None:
        """Refuse a loss that is not a function of the parameters, before anything differentiates it twice.

        The first micro-batch is evaluated twice, with random numbers going on in between.

        Raises:
            InputError: if the two losses differ, as they do with dropout in training mode, or are not finite.
        """

        def losses() -> list[Tensor]:
            return [self.unchanged(lambda: self.sum_and_count(self.batches[0])[0]) for _ in range(2)]

        before = self._random_states()
        first, second = (float(loss) for loss in self.without_graph(losses))
        drawn = any(not torch.equal(a, b) for a, b in zip(before, self._random_states(), strict=True))
        if not (math.isfinite(first) and math.isfinite(second)):
            raise InputError(f"The loss is {first:g} at these parameters, so it has no curvature; go back to others.")
        eps = max((torch.finfo(tensor.dtype).eps for tensor in self.parameters), default=0.0)
        # Kernels that add in any order differ by rounding; where random numbers were drawn every difference is theirs.
        allowed = 0.0 if drawn else min(100 * eps, 1e-2) * (abs(first) + abs(second)) + eps
        if first != second and not abs(first - second) <= allowed:
            raise InputError(
                f"Two evaluations at the same parameters gave {first:.6g} and {second:.6g}, so the loss has no second "
                f"derivative{_random_modules(self.model)}. Call model.eval() first (gradients still work), or build "
                "the model with dropout=0."
            )

    def _accumulate(self) -> Tensor:
        """Add gradients of sums over micro-batches and ranks, then divide once by the global count."""
        sums, reduction = [], None
        parameters, divided = self.parameters, []
        if sharded.any_divided(parameters):  # their gradients are added up as the backward pass goes on
            divided = [parameter for parameter in parameters if sharded.is_divided(parameter)]
            parameters = [parameter for parameter in parameters if not sharded.is_divided(parameter)]
        for place, batch in enumerate(self.batches):
            total, count = self.sum_and_count(batch)
            sums.append(torch.stack([total.detach(), count]))
            if place == len(self.batches) - 1 and distributed.is_active():
                reduction = Reduction(parameters, torch.stack(sums).sum(0), early=bool(self._traits["sends early"]))
            with contextlib.nullcontext() if reduction is None else reduction.during():
                total.backward()
        if reduction is None:
            total, count = torch.stack(sums).sum(0)
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        else:
            (total, count), gradients = reduction.finish()
            if self._traits["sends early"] is None:  # what the first pass has shown, on any of the processes
                self._traits["sends early"] = not distributed.most([float(reduction.is_repeated)])[0]
        gradients += [sharded.own(parameter.grad) for parameter in divided if parameter.grad is not None]
        count = self.head.divisor(count)
        self.scale = count.reciprocal()
        if gradients:
            torch._foreach_div_(gradients, count)
        return total / count

    def hidden(self, batch: Batch) -> Tensor:
        """Return the model's output for one micro-batch, with a graph: hidden states `[..., width]`.

        Of an output with several fields, as Hugging Face's models have it, its `logits`, else its `last_hidden_state`.

        Raises:
            InputError: it is neither a tensor nor one of these.
        """
        with noise.of_examples(batch.keys):
            call = self.model if self.call is None else self.call
            output = call(batch.inputs["inputs"]) if self._positional else call(**batch.inputs)
        if isinstance(output, Tensor):
            return output
        for name in ("logits", "last_hidden_state"):
            if isinstance(field := getattr(output, name, None), Tensor):
                return field
        raise InputError(
            "The model must return one tensor, or an output with `logits` or `last_hidden_state`; got a "
            f"{type(output).__name__}. Wrap it in a module that returns the tensor that the head is to see."
        )

    def _autocast(self, batch: Batch) -> torch.autocast:
        return torch.autocast(batch.targets.device.type, self.autocast, enabled=self.autocast is not None)

    def _network(self) -> nn.ModuleDict:
        return nn.ModuleDict({"model": self.model, "head": self.head})

    def _penalty(self) -> Tensor | float:
        if not self.penalized:
            return 0.0
        with torch.no_grad():
            return 0.5 * self.l2 * vectors.norm(self.penalized).square()

    def _add_penalty_gradient(self) -> None:
        gradients = []
        for tensor in self.penalized:
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            gradients.append(tensor.grad)
        with torch.no_grad():
            vectors.add_(gradients, [tensor.detach() for tensor in self.penalized], self.l2)

    def _replay_noise(self) -> None:
        """Remember the random state at the first evaluation, and put it back before every later one."""
        if self._noise is None:
            self._noise = self._random_states()
            return
        torch.set_rng_state(self._noise[0])
        for device, state in zip(self._accelerators(), self._noise[1:], strict=True):
            torch.cuda.set_rng_state(state, device)

    def _random_states(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self._accelerators())]

    def _accelerators(self) -> list[torch.device]:
        return list(dict.fromkeys(tensor.device for tensor in self.parameters if tensor.is_cuda))


def _ordinary(batch: Batch) -> Batch:
    """Return a batch without tensors made in inference mode, of which nothing can be differentiated."""

    def ordinary(tensor: Tensor) -> Tensor:
        return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor

    inputs = {name: ordinary(tensor) for name, tensor in batch.inputs.items()}
    mask, weights, keys = (None if part is None else ordinary(part) for part in (batch.mask, batch.weights, batch.keys))
    return Batch(inputs, ordinary(batch.targets), mask, weights, keys=keys)


def _short(name: str) -> str:
    return name.removeprefix("model.").replace("_orig_mod.", "")


def _random_modules(model: nn.Module) -> str:
    """Say which modules draw random numbers, as the end of a clause."""
    names = [
        f"'{name}'" if name else "the model itself"
        for name, module in model.named_modules()
        if module.training and isinstance(module, _DROPOUTS) and module.p > 0.0
    ]
    if not names:
        return ": something in it draws random numbers"
    return f": dropout is active in {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"


def _as_batches(
    inputs: Inputs | Batch | Sequence[Batch], targets: Tensor | None, mask: Tensor | None, weights: Tensor | None
) -> tuple[list[Batch], bool]:
    """Return the batches, and whether the model takes one positional tensor."""
    if isinstance(inputs, Tensor | Mapping):
        if targets is None:
            raise ValueError("Objective(model, head, inputs, targets) needs targets when inputs is not a Batch.")
        positional = isinstance(inputs, Tensor)
        keywords = {"inputs": inputs} if isinstance(inputs, Tensor) else dict(inputs)
        return [Batch(keywords, targets, mask, weights)], positional
    if targets is not None or mask is not None or weights is not None:
        raise ValueError("Objective(...) got a Batch, which holds its own targets, mask and weights; leave those out.")
    batches = [inputs] if isinstance(inputs, Batch) else list(inputs)
    if not batches:
        raise ValueError("Objective(...) needs at least one batch; got an empty sequence.")
    return batches, False
