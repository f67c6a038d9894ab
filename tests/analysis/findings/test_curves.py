"""What lies beneath the noise of a curve: its running median, noise and cycles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.analysis.findings.curves import MOST_VALUES, SHORTEST_CYCLE, Curve, curve_of, running_median

EPOCHS = np.arange(1.0, 41)


def curve(values: np.ndarray) -> Curve:
    return Curve(np.arange(1.0, len(values) + 1), values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40))
def test_the_running_median_is_pandas_and_every_value_of_it_was_logged_nearby(values: list[float]) -> None:
    array = np.array(values)
    places, half = running_median(array), (5 if len(values) >= 10 else 3) // 2
    expected = pd.Series(array).rolling(2 * half + 1, center=True).median().to_numpy()
    inner = slice(half, len(values) - half)
    np.testing.assert_array_equal(array[places][inner], expected[inner])
    assert np.abs(places - np.arange(len(values))).max() <= 2
    for end, window in ((0, array[:3]), (-1, array[-3:])):
        assert array[places][end] == np.median(window)


@pytest.mark.parametrize("n_values", [0, 1, 2])
def test_curves_of_fewer_than_three_values_are_left_as_they_are(n_values: int) -> None:
    assert running_median(np.arange(float(n_values))).tolist() == list(range(n_values))
    assert curve(np.arange(float(n_values))).noise == 0


def test_a_single_spike_leaves_no_trace_in_level_noise_and_range() -> None:
    plain = 1 + np.exp(-EPOCHS / 5)
    spiked = plain.copy()
    spiked[25] = 50.0
    assert curve(spiked).range == pytest.approx(curve(plain).range, rel=1e-6)
    assert np.abs(curve(spiked).level - curve(plain).level).max() < 0.02
    assert curve(spiked).noise < 0.01


@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_the_noise_of_a_falling_curve_is_that_which_was_added(sigma: float) -> None:
    random = np.random.default_rng(0)
    found = [curve(np.exp(-EPOCHS / 10) + sigma * random.standard_normal(40)).noise for _ in range(200)]
    assert np.median(found) == pytest.approx(sigma, rel=0.15)


@pytest.mark.parametrize("period", [3, 4, 5, 8, 10])
def test_the_steps_of_a_sawtooth_come_again_after_its_period(period: int) -> None:
    assert curve(1 / EPOCHS + (EPOCHS % period) / period).period == period


def test_falls_noise_and_alternation_have_no_period() -> None:
    random = np.random.default_rng(1)
    assert curve(np.exp(-EPOCHS / 10)).period == 0
    assert curve(EPOCHS % 2).period == 0
    assert curve(np.full(40, 0.5)).period == 0
    found = [curve(1 / EPOCHS + random.standard_normal(40)).period for _ in range(300)]
    assert np.mean(np.array(found) > 0) < 0.1
    assert SHORTEST_CYCLE > 2


def test_rises_of_growing_length_that_were_recovered_from_are_cycles_and_one_alone_is_none() -> None:
    once, twice = np.full(60, 0.5), np.full(60, 0.5)
    for values, places in ((once, [slice(20, 26)]), (twice, [slice(12, 18), slice(30, 40)])):
        for place in places:
            values[place] = 1.5
    assert curve(once).cycle(0.05) == 0
    assert curve(twice).cycle(0.05) >= 10
    assert curve(twice).level[curve(twice).settled(30)].max() == 0.5


def test_shares_are_of_the_lowest_loss_above_0_and_else_of_half_of_the_range() -> None:
    assert curve(np.linspace(3, 1, 11)).unit == pytest.approx(1.2)  # the lowest of the running median
    for values in (np.linspace(1, -3, 101), np.linspace(4, 0, 101)):
        assert curve(values).unit == pytest.approx(2.0, rel=0.05)


def test_a_long_curve_is_reduced_to_values_that_were_logged() -> None:
    values = np.random.default_rng(2).standard_normal(5_003)
    values[::7] = np.nan
    short = curve_of(np.arange(5_003.0), values)
    assert len(short) == MOST_VALUES
    assert all(values[int(epoch)] == value for epoch, value in zip(short.epochs, short.values, strict=True))
    assert short.values.std() < 0.5


@pytest.mark.parametrize("step", [0.1, 1 / 3, -0.05])
def test_a_straight_line_has_no_cycle_of_rounding(step: float) -> None:
    assert curve_of(np.arange(30.0), np.array([3 - step * epoch for epoch in range(30)])).period == 0.0
