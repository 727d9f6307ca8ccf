"""Peak bytes of live tensors."""

import torch

from cfgbench.running.memory import LiveTensors, peak

MB = 2**20


def test_the_peak_is_that_of_tensors_alive_together() -> None:
    with LiveTensors([]) as live:
        first = torch.zeros(MB // 4)
        del first
        second = torch.zeros(MB // 2)
        third = second + 1
        del second, third
        torch.zeros(MB // 4)
    assert live.peak == 4 * MB


def test_views_and_weights_are_no_new_memory() -> None:
    layer = torch.nn.Linear(64, 64)
    x = torch.zeros(8, 64)
    with torch.no_grad(), LiveTensors([layer]) as live:
        y = layer(x)
        y.view(64, 8).t()
    assert live.peak == y.numel() * 4


def test_a_backward_pass_is_seen() -> None:
    x = torch.ones(MB, requires_grad=True)
    with LiveTensors([]) as live:
        (gradient,) = torch.autograd.grad(x.exp().sum(), x)
    assert live.peak >= 2 * gradient.numel() * 4


def test_the_resident_peak_of_the_process_is_told_where_the_system_knows_it() -> None:
    with peak("cpu") as memory:
        block = torch.ones(16 * MB)
        del block
    total = memory().total
    assert total is None or total > 64 * MB
