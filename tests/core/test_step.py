"""Around the steps of an epoch: who watches, which random numbers, how many threads, and how far a gradient goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from paretune.core.step import bare_step, clipped, n_threads, seed_of, seeded, step_of, watched


@pytest.mark.parametrize(
    ("total", "told"),
    [(1, [1]), (3, [1, 2, 3]), (100, list(range(1, 101))), (199, list(range(1, 200))), (250, list(range(2, 251, 2)))],
)
def test_who_watches_is_told_a_hundred_times_or_at_each_step_and_at_the_last(total: int, told: list[int]) -> None:
    calls: list[tuple[int, int]] = []
    assert list(watched(range(total), total, lambda done, all_: calls.append((done, all_)))) == list(range(total))
    assert calls == [(done, total) for done in told]


def test_the_last_step_is_told_also_where_it_is_no_multiple() -> None:
    calls: list[int] = []
    list(watched(range(301), 301, lambda done, _: calls.append(done)))
    assert calls[-2:] == [300, 301]


def weights_after(make_step: Any, norm: float | None = None) -> torch.Tensor:
    weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    weight.grad = torch.tensor([3.0, 4.0])  # of norm 5
    with torch.no_grad():
        clipped(make_step(optimizer), optimizer, norm)()
    return weight.detach()


@pytest.mark.parametrize(("norm", "after"), [(None, [-0.5, -1.0]), (5.0, [-0.5, -1.0]), (1.0, [0.7, 0.6])])
@pytest.mark.parametrize("make_step", [bare_step, step_of])
def test_a_gradient_is_cut_to_its_norm(make_step: Any, norm: float | None, after: list[float]) -> None:
    torch.testing.assert_close(weights_after(make_step, norm), torch.tensor(after), rtol=1e-5, atol=1e-5)


def test_a_step_that_a_schedule_watches_is_taken_whole() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    assert step_of(optimizer) is not optimizer.step
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert step_of(optimizer) is optimizer.step


def test_each_epoch_has_random_numbers_of_its_own_and_leaves_those_of_others() -> None:
    device = torch.device("cpu")
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    drawn = {}
    for key in ((1, 1), (1, 2), (2, 1), (1, 0)):
        with seeded(device, *key):
            drawn[key] = float(torch.rand(1))
    torch.testing.assert_close(torch.rand(2), expected)
    assert len(set(drawn.values())) == 4
    with seeded(device, 1, 2):
        assert float(torch.rand(1)) == drawn[1, 2]


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 0), (7, 3), (2**32, 1)])
def test_a_seed_is_numpys_without_its_last_bit(seed: int, epoch: int) -> None:
    whole = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])
    assert seed_of(seed, epoch) == whole // 2
    assert 0 <= seed_of(seed, epoch) < 2**63


def test_threads_are_taken_away_for_a_block_and_never_added(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads.__setitem__(0, count))
    for count, within in ((2, 2), (4, 4), (8, 4), (None, 4)):
        with n_threads(count):
            assert threads == [within]
        assert threads == [4]
    with pytest.raises(ZeroDivisionError), n_threads(1):
        raise ZeroDivisionError
    assert threads == [4]
