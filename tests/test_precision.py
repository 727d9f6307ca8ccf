"""Emulated half precision against true half-precision arithmetic."""

import pytest
import torch

from cfgbench.generation import precision
from cfgbench.models import Level
from cfgbench.models.digits import load


def relative_error(dtype: str) -> float:
    model, exact = load(), load()
    precision.apply(model.networks, dtype)
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels, level = torch.arange(64) % 10, Level(torch.tensor(300.0), 0.5)
    with torch.no_grad():
        truth = exact.predict(x, level, labels)
        rounded = model.predict(x.to(precision.TORCH[dtype]), level, labels).float()
    return float((rounded - truth).norm() / truth.norm())


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_the_emulated_error_is_close_to_the_error_of_true_arithmetic(dtype: str) -> None:
    true, emulated = relative_error(dtype), relative_error(f"{dtype}_emulated")
    assert 0.5 < emulated / true < 2


def test_fp32_is_exact_and_half_precision_is_ordered_by_its_mantissa() -> None:
    assert relative_error("fp32") == 0
    assert 0 < relative_error("fp16_emulated") < relative_error("bf16_emulated") < 0.05


def test_emulation_overflows_where_half_precision_does() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 300.0)
    precision.apply({"main": layer}, "fp16_emulated")
    assert torch.isinf(layer(torch.tensor([[300.0]]))).all()


def test_switches_are_restored() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with precision.switches("tf32"):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before
