"""From an optimizer's class to an optimizer over a model and its head.

Decides what every training script otherwise decides by hand: which parameters decay, which implementation is fast,
what a matrix method is given, and which learning rate is worth trying first.
"""

import difflib
import functools
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.optim import Optimizer

from thalweg import distributed, sharded
from thalweg.errors import InputError, shown
from thalweg.optim.averaging import AbstractAveraging
from thalweg.optim.catalog import MOST_PAIRS, OPTIMIZERS
from thalweg.optim.combined import Combined
from thalweg.optim.preconditioned import AbstractPreconditioned
from thalweg.optim.roles import Roles, parameter_groups, roles_of

Constructor = type[Optimizer] | Callable[..., Optimizer]

# First guesses for small networks on text, from scratch; what is not here starts from its constructor's own default.
LEARNING_RATES: dict[Any, float] = {
    torch.optim.Adam: 2e-3,
    torch.optim.AdamW: 2e-3,
    torch.optim.NAdam: 2e-3,
    torch.optim.RAdam: 2e-3,
    torch.optim.Adamax: 4e-3,
    torch.optim.Adafactor: 1e-2,
    torch.optim.Adagrad: 5e-2,
    torch.optim.Adadelta: 1.0,
    torch.optim.RMSprop: 1e-3,
    torch.optim.Rprop: 1e-2,
    torch.optim.SGD: 0.1,
    torch.optim.ASGD: 0.1,
    torch.optim.Muon: 0.02,
    torch.optim.LBFGS: 1.0,
}

# Matrix methods of other packages, by class name: on an embedding of 8,000 rows one step of SOAP takes minutes.
MATRIX_METHODS = frozenset(
    {"Muon", "SOAP", "Shampoo", "ScalableShampoo", "Kron", "PSGDKron", "DistributedShampoo", "KLShampoo", "SPlus"}
)

# Device types with fused kernels for every optimizer that has a `fused` argument.
FUSED_DEVICES = frozenset({"cpu", "cuda"})


def make_optimizer(
    constructor: Constructor,
    model: nn.Module,
    head: nn.Module,
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Return an optimizer over the trainable parameters of a model and its head.

    - **Weight decay** applies to weight matrices only: not to embeddings (rows of rare words would shrink without ever
      being seen), biases, scales and whatever has fewer than two dimensions. Where the optimizer knows decoupled decay
      it is used (AdamW by itself, Adam, NAdam and RAdam by their `decoupled_weight_decay`); elsewhere it is the
      optimizer's own `weight_decay`, which for SGD without momentum is the same thing.
    - **Speed**: the fused kernels are used where PyTorch has them.
    - **Matrix methods** (Muon, and SOAP, Shampoo, Kron of other packages) get the matrices inside the model; output
      layer, embeddings and vectors go to AdamW, both as one `Combined` optimizer. AdamW's rate is `companion_lr` of
      the options, by default in the same proportion to `lr` as the two default rates. Where the model has no matrices
      inside, those but Muon get the output layer.
    - **LBFGS** searches along its direction (strong Wolfe) unless the options say otherwise; plain steps of full length
      diverge too easily. It takes one group and no weight decay.

    Args:
        constructor: an optimizer's class, or a function called like one: `(groups, lr=..., **options)`.
        model: the network up to its hidden states.
        head: the output layer; its parameters may be shared with the model.
        lr: learning rate, not negative; None: `default_learning_rate`.
        weight_decay: not negative; None: the constructor's own default.
        options: further arguments of the constructor.

    Raises:
        InputError: SparseAdam; an argument that the constructor doesn't take; a value that it refuses; Muon where there
            is no matrix for it; nothing to train.

    Example:
        >>> optimizer = make_optimizer(torch.optim.AdamW, nn.Embedding(10, 4), nn.Linear(4, 2), weight_decay=0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
        [(1, 0.1), (2, 0.0)]
    """
    options = dict(options or {})
    roles = roles_of(model, head)
    if not roles.all():
        raise InputError("There is nothing to train: neither model nor head has a parameter with requires_grad.")
    if constructor is torch.optim.SparseAdam:
        raise InputError("SparseAdam takes sparse gradients only, and the layers here have dense ones; use Adam.")
    if not _is_number(companion := options.get("companion_lr", 0.0)):
        raise InputError(f"{_name(constructor)}: companion_lr must be a number; got {companion!r}.")
    lr = default_learning_rate(constructor) if lr is None else lr
    if isinstance(constructor, type) and issubclass(constructor, AbstractPreconditioned):
        return _by_roles(constructor, roles, lr, weight_decay, options)
    if _name(constructor) in MATRIX_METHODS:
        return _with_companion(constructor, roles, lr, weight_decay, options)
    if constructor is torch.optim.LBFGS:
        _check_options(constructor, options, ())
        for name in ("history_size", "max_iter"):
            if not 1 <= (size := options.get(name, 1)) <= MOST_PAIRS:
                raise InputError(f"LBFGS({name}=...) must lie between 1 and {MOST_PAIRS:,}; got {shown(size)}.")
        options = {"line_search_fn": "strong_wolfe", **options}
    return _build(
        constructor, [*roles.matrices, *roles.output], [*roles.embeddings, *roles.vectors], lr, weight_decay, options
    )


def default_learning_rate(optimizer: str | Constructor) -> float:
    """Return a learning rate to try first, for small networks on text.

    Args:
        optimizer: a constructor, a name as in `optimizer_names`, or an import path.

    Raises:
        InputError: there is no such optimizer.

    Example:
        >>> default_learning_rate("sgd"), default_learning_rate(torch.optim.Muon)
        (0.1, 0.02)
    """
    constructor = find_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    if isinstance(constructor, type) and constructor in LEARNING_RATES:
        return LEARNING_RATES[constructor]
    default = _own_default(constructor, "lr")
    return float(default) if isinstance(default, int | float) else 1e-3


def default_weight_decay(optimizer: str | Constructor) -> float:
    """Return 0.01, or 0 for an optimizer that takes no weight decay; arguments as for `default_learning_rate`.

    Example:
        >>> default_weight_decay("adamw"), default_weight_decay("lbfgs")
        (0.01, 0.0)
    """
    constructor = find_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    return 0.01 if _takes(constructor, "weight_decay") else 0.0


def without_momentum(constructor: Constructor) -> dict[str, Any]:
    """Return the options with which an optimizer of Adam's kind averages no gradients, for `ScheduleFree` to do it.

    Example:
        >>> without_momentum(torch.optim.AdamW), without_momentum(torch.optim.Muon)
        ({'betas': (0.0, 0.999)}, {})
    """
    betas = _own_default(constructor, "betas")
    return {"betas": (0.0, *betas[1:])} if isinstance(betas, tuple) and len(betas) == 2 else {}


def optimizer_names() -> dict[str, type[Optimizer]]:
    """Return every optimizer of `torch.optim` by its name in lower case, and those of this library that step alike.

    Example:
        >>> optimizer_names()["adamw"], optimizer_names()["soap"]
        (<class 'torch.optim.adamw.AdamW'>, <class 'thalweg.optim.soap.SOAP'>)
    """
    own = {name: load_optimizer(path) for name, path in OPTIMIZERS.items()}
    theirs = {
        name.lower(): member
        for name, member in sorted(vars(torch.optim).items())
        if isinstance(member, type) and issubclass(member, Optimizer) and member is not Optimizer
    }
    return theirs | own


def find_optimizer(name: str) -> type[Optimizer]:
    """Return an optimizer's class for a name of `optimizer_names` (in any case) or an import path.

    Raises:
        InputError: there is none.
    """
    names = optimizer_names()
    known = {f"torch.optim.{one.__name__}": one for one in names.values() if one.__module__.startswith("torch.")}
    if name in known:
        return known[name]
    if "." in name:
        return load_optimizer(name)
    if name.lower() not in names:
        raise InputError(f"There is no optimizer {name!r}; expected an import path or one of {', '.join(names)}.")
    return names[name.lower()]


def load_optimizer(path: str) -> type[Optimizer]:
    """Import an optimizer's class by module and name, such as "pytorch_optimizer.SOAP".

    Raises InputError where either is missing, or the class is no `torch.optim.Optimizer`.
    """
    module_path, _, name = path.rpartition(".")
    if not all(part.isidentifier() for part in path.split(".")) or not module_path:
        raise InputError(
            f"An optimizer's import path looks like package.Class, such as pytorch_optimizer.SOAP; got {path!r}."
        )
    try:
        module = importlib.import_module(module_path)
    except ModuleNotFoundError as error:
        package = (error.name or module_path).split(".")[0]
        if package == module_path.split(".")[0] and error.name != package:
            raise InputError(f"{path}: {package} is installed and has no module {error.name!r}.") from None
        raise InputError(
            f"{path}: there is no module {package!r}; pip install {package.replace('_', '-')}, or put the folder that "
            "holds it on PYTHONPATH."
        ) from None
    except ImportError as error:
        raise InputError(f"{path} cannot be imported: {error}.") from None
    found = vars(module).get(name)
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        known = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Optimizer)]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        what = f"{module_path} has no {name!r}" if found is None else f"{path} is not a torch.optim.Optimizer"
        raise InputError(f"{what}; expected an optimizer's class{f', such as {close[0]}' if close else ''}.")
    return found


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether `step` is to be called with a closure.

    True for L-BFGS and for every optimizer of another package whose `step` takes one: some evaluate the loss again.
    False for PyTorch's first-order optimizers, and those of `optimizer_names` here.

    Example:
        >>> needs_closure(torch.optim.SGD([torch.zeros(1)])), needs_closure(torch.optim.LBFGS([torch.zeros(1)]))
        (False, True)
    """
    if isinstance(optimizer, AbstractAveraging):  # it evaluates a closure itself, and steps without one
        return False
    if isinstance(optimizer, Combined):
        return any(map(needs_closure, optimizer.optimizers))
    if type(optimizer) in optimizer_names().values():
        return isinstance(optimizer, torch.optim.LBFGS)
    return bool(inspect.signature(optimizer.step).parameters)


def _by_roles(
    constructor: type[AbstractPreconditioned],
    roles: Roles,
    lr: float,
    weight_decay: float | None,
    options: dict[str, Any],
) -> Optimizer:
    """An optimizer of this library that sees matrices, with a group for each role."""
    companion_lr = options.pop("companion_lr", lr)
    if weight_decay is None:
        weight_decay = float(_own_default(constructor, "weight_decay"))
    make: Callable[..., Optimizer] = constructor
    groups = parameter_groups(
        roles, weight_decay=weight_decay, companion_lr=companion_lr, takes_output=constructor.refreshes
    )
    _check_options(constructor, options, also=("companion_lr",))
    try:
        return make(groups, **({"lr": lr, "spread": distributed.is_active()} | options))
    except Exception as error:  # whatever it raises, it is by what it was given
        raise _refusal(constructor, {"lr": lr, **options}, error) from error


def _with_companion(
    constructor: Constructor, roles: Roles, lr: float, weight_decay: float | None, options: dict[str, Any]
) -> Optimizer:
    """A matrix method on the matrices inside the model, AdamW on everything else."""
    torch_muon = constructor is torch.optim.Muon
    matrices, rest = roles.matrices, roles.output
    if torch_muon:
        rest = [*rest, *(parameter for parameter in matrices if parameter.dim() > 2)]
        matrices = [parameter for parameter in matrices if parameter.dim() == 2]
    elif not matrices:
        matrices, rest = roles.output, []
    if not matrices:
        raise InputError(
            f"{_name(constructor)} works on weight matrices between embedding and output layer, and this model has "
            "none; use AdamW, or a model with hidden layers."
        )
    ratio = default_learning_rate(torch.optim.AdamW) / default_learning_rate(constructor)
    companion_lr = options.pop("companion_lr", ratio * lr)
    optimizers = [_build(constructor, matrices, [], lr, weight_decay, options, also=("companion_lr",))]
    others = [*roles.embeddings, *roles.vectors]
    if rest or others:
        optimizers.append(_build(torch.optim.AdamW, rest, others, companion_lr, weight_decay, {}))
    return Combined(optimizers)


def _build(
    constructor: Constructor,
    decayed: list[nn.Parameter],
    others: list[nn.Parameter],
    lr: float,
    weight_decay: float | None,
    options: dict[str, Any],
    also: tuple[str, ...] = (),
) -> Optimizer:
    """Call the constructor, with its arguments checked, on one group or on a decayed and an undecayed one."""
    name = _name(constructor)
    arguments: dict[str, Any] = {**options, "lr": lr}
    takes_decay = _takes(constructor, "weight_decay")
    if weight_decay is None:
        default = _own_default(constructor, "weight_decay")
        weight_decay = float(default) if isinstance(default, int | float) else 0.0
    if not weight_decay >= 0:
        raise InputError(f"{name}: weight_decay must not be negative; got {weight_decay!r}.")
    if weight_decay and not takes_decay:
        raise InputError(f"{name} takes no weight decay; set it to 0 (an l2 penalty in the loss is possible).")
    if weight_decay and "decoupled_weight_decay" in inspect.signature(constructor).parameters:
        arguments.setdefault("decoupled_weight_decay", True)
    _check_options(constructor, options, also)
    if _can_fuse(constructor, options, [*decayed, *others]):
        arguments["fused"] = True
    groups: list[Any] = [*decayed, *others]
    if takes_decay:
        given = [(decayed, weight_decay), (others, 0.0)]
        groups = [{"params": parameters, "weight_decay": decay} for parameters, decay in given if parameters]
    try:
        return constructor(groups, **arguments)
    except Exception as error:  # whatever it raises, it is by what it was given
        raise _refusal(constructor, {"lr": lr, **options}, error) from error


def _refusal(constructor: Constructor, arguments: Mapping[str, Any], error: Exception) -> InputError:
    """Return what a constructor says of arguments that it does not take."""
    given = ", ".join(f"{key}={shown(value)}" for key, value in arguments.items())
    return InputError(f"{_name(constructor)}({given}) refuses its arguments: {error}.".replace("..", "."))


def _check_options(constructor: Constructor, options: Mapping[str, Any], also: tuple[str, ...]) -> None:
    """Refuse what the constructor does not take."""
    first, *own = inspect.signature(constructor).parameters.values()
    if unknown := [key for key in options if key == first.name or not _takes(constructor, key)]:
        known = [*(p.name for p in own if p.kind is not p.VAR_KEYWORD), *also]
        raise InputError(f"{_name(constructor)} takes no {', '.join(map(repr, unknown))}; it takes {', '.join(known)}.")
    check_values(_name(constructor), constructor, options)


def check_values(name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise an InputError that names an argument whose value is of another kind than its default.

    Nothing is said of arguments without a default, and of values that are tensors.
    """
    parameters = inspect.signature(function).parameters
    for key, value in arguments.items():
        expected = "" if key not in parameters else _other_kind(parameters[key], value)
        if expected:
            raise InputError(f"{name}({key}=...) must be {expected}; got {shown(value)}.")


def _other_kind(parameter: inspect.Parameter, value: Any) -> str:
    """Return what a value of a parameter must be, with its default as an example; "" if it is that."""
    default, hint = parameter.default, str(getattr(parameter.annotation, "__name__", parameter.annotation))
    if isinstance(value, torch.Tensor) or (value is None and "None" in hint):
        return ""
    if isinstance(default, bool) or hint in ("bool | None", "Optional[bool]"):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, str) and not isinstance(value, str):
        return f"a name, such as {default}"
    if isinstance(default, tuple) and any(map(_is_number, default)):
        example = ", ".join(map(str, default))
        entries = (
            zip(value, default, strict=True) if isinstance(value, list | tuple) and len(value) == len(default) else ()
        )
        fits = [_is_number(one) or one is own is None for one, own in entries]
        return "" if fits and all(fits) else f"{len(default)} numbers, such as [{example}]"
    example = "" if default is None else f", such as {default}"
    if hint in ("int", "int | None", "Optional[int]"):
        return "" if isinstance(value, int) and not isinstance(value, bool) else f"a whole number{example}"
    if hint in ("float", "float | None", "Optional[float]") or _is_number(default):
        return "" if _is_number(value) else f"a number{example}"
    return ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _can_fuse(constructor: Constructor, options: dict[str, Any], parameters: list[nn.Parameter]) -> bool:
    if "fused" not in inspect.signature(constructor).parameters:
        return False
    if any(options.get(key) for key in ("foreach", "differentiable")) or "fused" in options:
        return False
    if sharded.any_divided(parameters) and not issubclass(constructor, torch.optim.Adam):  # type: ignore[arg-type]
        return False  # PyTorch has rules for the kernels of Adam and AdamW alone
    return all(p.is_floating_point() and p.device.type in FUSED_DEVICES for p in parameters)


def _takes(constructor: Constructor, argument: str) -> bool:
    """Whether it names the argument; one that names not even `lr` is believed to take everything it is given.

    Many constructors end in `**kwargs` and never look into it: a misspelled option would pass unseen.
    """
    parameters = inspect.signature(constructor).parameters
    takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values()) and "lr" not in parameters
    return argument in parameters or takes_anything


def _own_default(constructor: Constructor, argument: str) -> Any:
    parameter = inspect.signature(constructor).parameters.get(argument)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _name(constructor: Constructor) -> str:
    if isinstance(constructor, functools.partial):
        return _name(constructor.func)
    return getattr(constructor, "__name__", type(constructor).__name__)
