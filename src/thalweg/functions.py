"""Any function of tensors as an objective: a number to minimize, residuals, or predictions under a head."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from thalweg.batch import Batch
from thalweg.errors import InputError, counted
from thalweg.heads.adapt import as_head
from thalweg.heads.base import AbstractHead
from thalweg.heads.squared import Squared
from thalweg.heads.value import Value
from thalweg.objective import Objective

# One tensor, a list or tuple, or a dictionary; arrays and numbers instead of tensors where a user gives them.
Variables = Any
Function = Callable[[Any], Tensor]


def as_objective(
    function: Function,
    variables: Variables,
    *,
    residuals: bool = False,
    head: AbstractHead | nn.Module | None = None,
    targets: Tensor | None = None,
    l2: float = 0.0,
) -> Objective:
    r"""Return an `Objective` of any function of tensors, for all curvature matrices and all optimizers.

    The objective is, for the function's result $r(x)$ and the penalty $p(x) = \frac{\text{l2}}{2} \lVert x \rVert^2$,

    $$f(x) = r(x) + p(x), \qquad \tfrac12 \sum_i r_i(x)^2 + p(x), \qquad \text{head}(r(x), \text{targets}) + p(x)$$

    for a number, for `residuals` (the convention of `scipy.optimize.least_squares`), and for predictions under a head.
    Only the last two have a Gauss-Newton matrix, which `GaussNewton`, `LevenbergMarquardt` and the default `NewtonCG`
    need; of a number there is the `Hessian`.

    The variables are copied: what is given is never changed. The objective's own are in the same form in
    `objective.model.variables`, and its `parameters` have their names: `x`, the places in a list, or the keys.

    Args:
        function: gets the variables in the form in which they were given, one argument, and returns a real tensor: one
            number; with `residuals` any number of them; with a head, predictions with examples in the first dimension.
            It may differentiate inside. Trainable parameters are variables: it must not close over others.
        variables: where to start: a tensor, a list or tuple of tensors, or a dictionary, such as
            `dict(model.named_parameters())` with `torch.func.functional_call`. NumPy arrays are tensors of their type;
            numbers and a list of numbers are float64.
        residuals: whether the result is residuals; the function is then called once to count them.
        head: what compares predictions with targets: a head, `nn.MSELoss()`, `nn.CrossEntropyLoss()`, ...
        targets: of the head, one row an example.
        l2: strength of the penalty on all variables, >= 0.

    Raises:
        ValueError: variables of another kind, not real or none at all; a head without targets, or with `residuals`;
            when it is evaluated: a result that is no such tensor, or does not depend on the variables.

    Example:
        >>> from thalweg.curvature.hessian import Hessian
        >>> objective = as_objective(lambda x: (x**4).sum(), torch.tensor([1.0, 2.0]))
        >>> Hessian(objective).dense()
        tensor([[12.,  0.],
                [ 0., 48.]])
        >>> line = {"slope": torch.zeros(1), "offset": torch.zeros(1)}
        >>> t, y = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0, 5.0])
        >>> objective = as_objective(lambda v: v["slope"] * t + v["offset"] - y, line, residuals=True)
        >>> objective.value()
        tensor(17.5000)

    Not for networks on batches of data: `Objective(model, head, ...)` has masks, micro-batches and ranks.
    """
    if head is None and targets is not None:
        raise ValueError("as_objective(targets=...) belongs to a head; give head=..., such as nn.MSELoss().")
    if head is not None and (targets is None or targets.dim() == 0):
        raise ValueError("as_objective(head=...) needs targets=..., a tensor with one row an example.")
    if head is not None and residuals:
        raise ValueError("as_objective takes residuals=True or a head, not both: residuals have their targets in them.")
    model = FunctionModel(function, variables, flattens=residuals)
    own = list(model.parameters())
    if residuals:
        with torch.enable_grad():
            found = model.result()
        if found.numel() == 0:
            raise InputError("as_objective(residuals=True): the function must return at least one residual; got none.")
        head, targets = Squared(), found.detach().new_zeros(found.shape)
        head.averages = False
    if head is None or targets is None:
        batch = Batch({}, torch.ones((), dtype=own[0].dtype, device=own[0].device))
        return Objective(model, Value(_NO_GAUSS_NEWTON, averages=False), batch, l2=l2, penalized=own)
    model.rows = torch.arange(len(targets), device=targets.device)
    objective = Objective(model, as_head(head), Batch({"rows": model.rows}, targets), l2=l2, penalized=own)
    objective.num_values += residuals
    return objective


@final
class FunctionModel(nn.Module):
    """A function as a module: its variables are the parameters, and its output is the function's result.

    Args:
        function: as for `as_objective`.
        variables: as for `as_objective`.
        flattens: whether the result, of any shape, is made rows of one number.

    Attributes:
        rows: numbers of the rows that the result has; None: it is one number.
        form: in which the variables were given: `Tensor`, list, tuple or dict.
        variable_names: `x`, places in a list, or keys.
    """

    rows: Tensor | None = None

    def __init__(self, function: Function, variables: Variables, *, flattens: bool = False) -> None:
        super().__init__()
        self._function = (function,)  # in a tuple, so that a module's own parameters don't become variables
        self._flattens = flattens
        self._graph_is_known = False
        self.form, named = _named(variables)
        self.variable_names = list(named)
        for name, tensor in named.items():
            _register(self, name, nn.Parameter(tensor.detach().clone()))

    @property
    def variables(self) -> Variables:
        """The variables in the form in which they were given: the parameters, or what stands for them."""
        parts = (_split(name) for name in self.variable_names)
        return self.formed([self.get_submodule(path)._parameters[last] for path, last in parts])

    def formed(self, tensors: Sequence[Tensor | None]) -> Variables:
        """Return tensors, one a variable, in the form in which the variables were given."""
        if self.form is Tensor:
            return tensors[0]
        return dict(zip(self.variable_names, tensors, strict=True)) if self.form is dict else self.form(tensors)

    def result(self) -> Tensor:
        """Return the function's result at the variables, in rows of one number where it is flattened."""
        result: Any = self._function[0](self.variables)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            raise InputError(
                "The function must return a real tensor, made of its variables by PyTorch operations; got "
                f"{_described(result)}."
            )
        if torch.is_grad_enabled() and not self._graph_is_known:
            self._check_graph(result)
            self._graph_is_known = True
        return result.reshape(-1, 1) if self._flattens else result

    @override
    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Return the function's result, or some rows of it."""
        result = self.result()
        if self.rows is None:
            if result.numel() == 1:
                return result
            raise InputError(
                f"The function must return one number; got {_described(result)}. For a sum of squares give "
                "residuals=True, for predictions head=... and targets=...."
            )
        if result.dim() == 0 or len(result) != len(self.rows):
            raise InputError(
                f"The function must return a tensor of {counted(len(self.rows), 'row')}, as there are targets or were "
                f"residuals at the start; got {_described(result)}."
            )
        return result if rows is None or rows is self.rows else result.index_select(0, rows)

    def _check_graph(self, result: Tensor) -> None:
        """Check that the result depends on variables, and not on anybody else's parameters."""
        own = {id(tensor) for tensor in self.parameters()}
        if not any(tensor.requires_grad for tensor in self.parameters()):
            return
        if not result.requires_grad:
            raise InputError(
                "The function's result has no graph back to its variables: compute it from them by PyTorch operations, "
                "without .item(), .numpy(), .detach() or torch.tensor(...) of them."
            )
        others = [leaf for leaf in _leaves(result) if isinstance(leaf, nn.Parameter) and id(leaf) not in own]
        if others:
            raise InputError(
                f"The function depends on {counted(len(others), 'trainable parameter')} (the first of shape "
                f"{list(others[0].shape)}) that it closes over, and that would never move: pass them as variables "
                "(dict(model.named_parameters()) with torch.func.functional_call), or requires_grad_(False) them."
            )


_NO_GAUSS_NEWTON = (
    "A function that returns one number has no Gauss-Newton matrix: give as_objective(..., residuals=True) a function "
    "of residuals, or head=... and targets=... with one of predictions; or use the Hessian, as Newton() and "
    "NewtonCG(Hessian, preconditioner=NoPreconditioner()) do."
)


def _named(variables: Variables) -> tuple[type, dict[str, Tensor]]:
    """Return the form in which variables were given, and their tensors by name."""
    form, named = Tensor, {"x": variables}
    if isinstance(variables, Mapping):
        form, named = dict, dict(variables)
        if not all(isinstance(key, str) for key in named):
            raise InputError(f"A dictionary of variables has strings as keys; got {list(named)}.")
    elif isinstance(variables, list | tuple) and not (variables and _are_numbers(variables)):
        form, named = type(variables), {str(place): value for place, value in enumerate(variables)}
        if hasattr(form, "_fields"):
            raise InputError(
                "Variables are a tensor, a list, a tuple or a dictionary; use ._asdict() of a named tuple."
            )
    if not named:
        raise InputError("There are no variables: give a tensor, or a list, tuple or dictionary of tensors.")
    return form, {name: _tensor(name, value) for name, value in named.items()}


def _tensor(name: str, value: Any) -> Tensor:
    """Return a variable as a tensor of a floating type."""
    if not isinstance(value, Tensor):
        try:
            if isinstance(value, list | tuple) and not _are_numbers(value):
                raise TypeError
            value = torch.as_tensor(
                value, dtype=torch.float64 if isinstance(value, int | float | list | tuple) else None
            )
            value = value if value.is_floating_point() or value.is_complex() else value.double()
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"Variable '{name}' must be a tensor, a NumPy array or a number; got {_described(value)}. Give a "
                "tensor, or a flat list, tuple or dictionary of tensors."
            ) from error
    if not value.is_floating_point():
        raise InputError(
            f"Variable '{name}' must have a real floating type; got {_described(value)}. Use .double(), or "
            "torch.view_as_real of complex numbers."
        )
    return value


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _register(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Make a tensor a parameter of a module, or, where the name has dots, of a module inside it."""
    path, last = _split(name)
    try:
        for part in path.split(".") if path else ():
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(last, parameter)
    except KeyError as error:
        raise InputError(
            f"'{name}' cannot be the name of a variable: it is empty, another variable's or an attribute of nn.Module; "
            "call it otherwise."
        ) from error


def _split(name: str) -> tuple[str, str]:
    path, _, last = name.rpartition(".")
    return path, last


def _leaves(result: Tensor) -> list[Tensor]:
    """Return all leaves of a graph that gradients go to."""
    seen, queue, leaves = set(), [result.grad_fn], []
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            leaves.append(leaf)
        queue += [before for before, _ in node.next_functions]
    return leaves


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {list(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
