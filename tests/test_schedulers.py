"""Learning rate factors by hand."""

import math

import pytest
import torch

from core.training.schedulers import cosine_warmup


def test_one_process_has_no_warmup():
    factor = cosine_warmup(num_epochs=2, num_frames=10, batch_size=4, processes=1)  # T = 2 * 3
    expected = [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert [factor(k) for k in range(6)] == pytest.approx(expected)
    assert factor(0) == 1.0 and factor(3) == pytest.approx(0.5) and factor(6) == pytest.approx(0.0)


def test_several_processes_warm_up():
    factor = cosine_warmup(num_epochs=25, num_frames=28130, batch_size=4, processes=3)
    iterations = 25 * 2345  # ceil(28130 / 12) = 2345
    assert [factor(k) for k in (0, 1, 332)] == pytest.approx([1 / 333, 2 / 333, 1.0])
    assert factor(333) == 1.0  # W = 1000 // 3: the cosine starts where the warm-up ends
    assert factor(334) == pytest.approx(0.5 * (1 + math.cos(math.pi / iterations)))
    assert factor(333 + iterations // 2) == pytest.approx(0.5, abs=1e-4)
    # the last iteration is W before the cosine's end
    assert factor(iterations - 1) == pytest.approx(0.5 * (1 + math.cos(math.pi * (iterations - 334) / iterations)))


@pytest.mark.parametrize(("processes", "warmup"), [(2, 500), (4, 250), (8, 125), (3000, 0)])
def test_warmup_is_shared_by_the_processes(processes, warmup):
    factor = cosine_warmup(25, 28130, 4, processes)
    assert factor(warmup) == 1.0
    assert all(factor(k) < factor(k + 1) for k in range(warmup - 1))
    if warmup:
        assert factor(0) == pytest.approx(1 / warmup)


def test_warmup_length_is_an_argument():
    assert cosine_warmup(1, 100, 1, 2, warmup_iterations=20)(4) == pytest.approx(0.5)


def test_rates_in_an_optimizer():
    """The first step is taken at the factor of k = 0, the next at that of k = 1."""
    factor = cosine_warmup(1, 4, 1, 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.24)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.24 * factor(k) for k in range(4)])
