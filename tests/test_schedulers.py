"""Learning rate factors by hand."""

import math

import pytest

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
