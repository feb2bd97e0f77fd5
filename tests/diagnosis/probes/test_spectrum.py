"""The Hessian's ends, trace and density against a dense eigendecomposition."""

import dataclasses

import pytest
import torch
from probe_cases import subject_of
from torch import nn

from thalweg.batch import Batch
from thalweg.curvature import CurvatureError, GaussNewton, Hessian
from thalweg.diagnosis.probes.spectrum import spectrum
from thalweg.diagnosis.subject import Facts, Subject
from thalweg.heads import Softmax, as_head


def small(**facts) -> Subject:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double()
    head = Softmax(3, 2).double()
    x = torch.randn(4, 10, 3, generator=generator, dtype=torch.float64)
    return Subject(
        model=model,
        head=head,
        train=[Batch({"input": part}, (part[:, 0] * part[:, 1] > 0).long()) for part in x],
        facts=Facts(family="mlp", **facts),
    )


def test_ends_and_trace_are_those_of_the_dense_matrix():
    subject = small(optimizer="sgd", lr=0.5)
    values = torch.linalg.eigvalsh(Hessian(subject.objective()).dense())
    found = spectrum(subject)
    assert abs(found["sharpness"] - float(values[-1])) <= found["sharpness_error"] + 1e-12
    assert found["sharpness"] == pytest.approx(float(values[-1]), rel=1e-4)
    assert found["smallest"] == pytest.approx(float(values[0]), abs=1e-2 * float(values[-1]))
    assert found["certified_negative"] == (found["smallest"] + found["smallest_error"] < 0.0)
    assert float(values[0]) < 0.0
    assert found["relative_negative"] == pytest.approx(-found["smallest"] / found["sharpness"])
    assert found["lr_times_sharpness"] == pytest.approx(0.5 * float(values[-1]), rel=1e-4)
    assert abs(found["trace"] - float(values.sum())) < 5.0 * found["trace_error"]
    gauss_newton = torch.linalg.eigvalsh(GaussNewton(subject.objective()).dense())
    assert found["gauss_newton"] == pytest.approx(float(gauss_newton[-1]), rel=1e-3)


def test_density_is_a_rule_whose_moments_fit():
    subject = small()
    found = spectrum(subject)
    assert sum(weight for _, weight in found["density"]) == pytest.approx(1.0)
    mean = sum(value * weight for value, weight in found["density"])
    assert found["size"] * mean == pytest.approx(found["trace"])
    assert [value for value, _ in found["density"]] == sorted(value for value, _ in found["density"])


def test_preconditioned_sharpness_is_that_of_the_scaled_matrix():
    subject = small(optimizer="adamw", lr=0.01)
    objective = subject.objective()
    squares = [
        torch.cat([g.flatten() for g in objective.on(batch).value_and_gradient()[1]]).square()
        for batch in subject.train
    ]
    squares.append(squares[-1])  # the probe adds the last batch of those that it multiplies with
    root = (torch.stack(squares).mean(0).sqrt() + 1e-8).rsqrt()
    scaled = root.unsqueeze(1) * Hessian(objective).dense() * root
    found = spectrum(subject)
    expected = float(torch.linalg.eigvalsh(scaled)[-1])
    assert found["preconditioned_sharpness"] == pytest.approx(expected, abs=found["preconditioned_error"])
    assert found["preconditioned_sharpness"] == pytest.approx(expected, rel=0.05)
    assert found["lr_times_preconditioned"] == pytest.approx(0.01 * found["preconditioned_sharpness"])


def test_minimum_of_a_convex_loss_has_no_negative_curvature():
    x = torch.randn(30, 4)
    model = nn.Linear(4, 1)
    found = spectrum(Subject(model=model, head=as_head(nn.MSELoss()), train=[Batch({"input": x}, x[:, :1])]))
    assert not found["certified_negative"]
    assert found["relative_negative"] < 1e-4


def test_last_rate_is_the_one_of_the_history():
    subject = dataclasses.replace(small(lr=0.5), history=[{"event": "step", "step": 1, "lr": 0.125}])
    found = spectrum(subject)
    assert found["last_lr_times_sharpness"] == pytest.approx(found["lr_times_sharpness"] / 4.0)


def test_module_without_second_derivative_is_named():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, gradient):
            return 2.0 * ctx.saved_tensors[0] * gradient

    class Squares(nn.Module):
        def forward(self, x):
            return Once.apply(x)

    model = nn.Sequential(nn.Linear(3, 3), Squares(), nn.Linear(3, 1))
    batch = Batch({"input": torch.randn(5, 3)}, torch.zeros(5, 1))
    with pytest.raises(CurvatureError, match=r"derivative is wrong, probably in '1' \(Squares\)"):
        spectrum(Subject(model=model, head=as_head(nn.MSELoss()), train=[batch]))


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_texts_are_measured_without_needless_padding(kind):
    found = spectrum(subject_of(kind))
    assert found["examples"] == 32
    assert found["sharpness"] > 0.0
