"""W&B's parameter distributions over Optuna's: what is drawn, and how a draw becomes the value that a trainer gets.

Meanings as in W&B's documentation, "Sweep configuration options". Where Optuna has the distribution, it is used as it is.
Where it has none, the quantile is drawn from [0, 1] and transformed by the inverse of the cumulative distribution, so that
every sampler searches it: normal, log-normal, beta, values with probabilities, and everything rounded to a multiple of q
(W&B rounds the draw, so the first and the last multiple are drawn half as often, which no stepped distribution does).
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Path = tuple[str, ...]  # the names of a nested parameter, from the outside in
TAIL = 1e-12  # quantiles 0 and 1 of a normal distribution are infinite


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high` that Optuna draws: all or only whole ones, on a linear or logarithmic scale."""

    low: float
    high: float
    only_whole: bool = False
    log: bool = False


UNIT = Range(0.0, 1.0)


@dataclass(frozen=True)
class Parameter:
    """A searched parameter that Optuna draws as it is: whole numbers, and numbers on a linear or logarithmic scale."""

    path: Path
    span: Range  # that Optuna draws from, where it draws a number

    @functools.cached_property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.span.only_whole:
            return IntDistribution(int(self.span.low), int(self.span.high))
        return FloatDistribution(self.span.low, self.span.high, log=self.span.log)

    @property
    def name(self) -> str:
        """The name in the study: nested names are joined by points."""
        return ".".join(self.path)

    def decode(self, drawn: Any) -> Any:
        """Return the value of a draw."""
        return drawn

    def encode(self, value: Any) -> Any:
        """Return the draw of a value that `contains`."""
        return int(value) if self.span.only_whole else float(value)

    def contains(self, value: Any) -> bool:
        """Whether the parameter can take a value."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.span.only_whole and isinstance(value, float) and not value.is_integer():
            return False
        return self.span.low <= value <= self.span.high

    def ends(self) -> list[Any]:
        """Return the values by which the trainer's limits are checked: every choice, or both ends of a range."""
        return [self.span.low, self.span.high]

    def n_values(self) -> float:
        """Return how many values there are at most, before a grid makes a list of them."""
        return self.span.high - self.span.low + 1 if self.span.only_whole else math.inf

    def grid(self) -> list[Any] | None:
        """Return every value in the order in which W&B tries them; None where they cannot be counted."""
        return list(range(int(self.span.low), int(self.span.high) + 1)) if self.span.only_whole else None


@dataclass(frozen=True)
class Choices(Parameter):
    """One of several values. What Optuna cannot hold as a choice (lists, mappings, True beside 1) is kept as JSON text."""

    values: tuple[Any, ...]
    as_text: bool

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values as Optuna holds them."""
        return tuple(map(_text, self.values)) if self.as_text else self.values

    @functools.cached_property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    @classmethod
    def of(cls, path: Path, values: Sequence[Any]) -> Choices:
        """Build from the values of a YAML list; equal ones count once."""
        first: dict[str, Any] = {}
        for value in values:
            first.setdefault(_text(value), value)
        kept = list(first.values())
        plain = all(value is None or isinstance(value, bool | int | float | str) for value in kept)
        as_text = not plain or len({_hashable(value) for value in kept}) < len(kept)
        return cls(path, UNIT, tuple(kept), as_text)

    def decode(self, drawn: Any) -> Any:
        return json.loads(drawn) if self.as_text else drawn

    def encode(self, value: Any) -> Any:
        texts = [_text(choice) for choice in self.values]
        return self.choices[texts.index(_text(value))]

    def contains(self, value: Any) -> bool:
        return _text(value) in {_text(choice) for choice in self.values}

    def ends(self) -> list[Any]:
        return list(self.values)

    def n_values(self) -> float:
        return len(self.values)

    def grid(self) -> list[Any] | None:
        return list(self.values)


@dataclass(frozen=True)
class Weighted(Choices):
    """Values with probabilities: the quantile lies in the part of [0, 1] that belongs to the value."""

    bounds: tuple[float, ...]  # upper bound of each value's part

    @functools.cached_property
    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.span.low, self.span.high)

    @classmethod
    def with_probabilities(cls, path: Path, values: Sequence[Any], probabilities: Sequence[float]) -> Weighted:
        """Build from two YAML lists of one length; the probabilities add up to 1."""
        sums = np.cumsum(probabilities)
        bounds = sums / sums[-1]  # np.sum rounds otherwise, and the last bound would not be 1
        return cls(path, UNIT, tuple(values), False, tuple(bounds.tolist()))

    def decode(self, drawn: Any) -> Any:
        place = int(np.searchsorted(self.bounds, drawn, side="right"))
        if place == len(self.values):  # the quantile 1 itself: of the last value that can be drawn
            place = next(i for i, bound in enumerate(self.bounds) if bound >= 1.0)
        return self.values[place]

    def encode(self, value: Any) -> Any:
        texts = [_text(choice) for choice in self.values]
        parts = list(zip((0.0, *self.bounds[:-1]), self.bounds, texts, strict=True))
        low, high = max(((low, high) for low, high, text in parts if text == _text(value)), key=lambda part: part[1] - part[0])
        return (low + high) / 2

    def contains(self, value: Any) -> bool:
        parts = zip((0.0, *self.bounds[:-1]), self.bounds, self.values, strict=True)
        return any(high > low and _text(choice) == _text(value) for low, high, choice in parts)

    def ends(self) -> list[Any]:
        return [choice for choice in self.values if self.contains(choice)]

    def n_values(self) -> float:
        return math.inf  # W&B refuses probabilities in a grid, too

    def grid(self) -> list[Any] | None:
        return None


@dataclass(frozen=True)
class Quantile(Parameter):
    """A number drawn by its quantile, rounded to a multiple of `q` where there is one.

    A quantile gives its number back only nearly: where a person names the number, `Space.inexact` keeps it beside the draw. Where
    the support is unbounded, nothing beyond the quantiles TAIL and 1 - TAIL is drawn.
    """

    inverse: Callable[[float], float]  # quantile -> number
    cumulative: Callable[[float], float]  # number -> quantile
    support: tuple[float, float]
    q: float | None = None

    def decode(self, drawn: Any) -> Any:
        number = float(self.inverse(min(max(float(drawn), TAIL), 1 - TAIL)))
        return number if self.q is None else multiple(number, self.q)

    def encode(self, value: Any) -> Any:
        if self.q is None:
            return float(np.clip(self.cumulative(float(value)), 0.0, 1.0))
        low, high = self._part(value)
        return (low + high) / 2

    def contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            return False
        if self.q is None:
            bounded = all(map(math.isfinite, self.support))
            low, high = self.support if bounded else (self.decode(0.0), self.decode(1.0))
            return low <= value <= high
        low, high = self._part(value)
        return high > low and math.isclose(multiple(value, self.q), value, rel_tol=1e-9, abs_tol=1e-12)

    def _part(self, value: float) -> tuple[float, float]:
        """Return the quantiles between which a multiple of q is drawn."""
        assert self.q is not None
        if self.support[0] == self.support[1]:
            return (0.0, 1.0) if value == multiple(self.support[0], self.q) else (0.0, 0.0)
        below, above = (math.nextafter(value, end) for end in (-math.inf, math.inf))  # where q is less than a float's precision
        low = max(min(value - self.q / 2, below), self.support[0])
        high = min(max(value + self.q / 2, above), self.support[1])
        if low >= high:
            return 0.0, 0.0
        first, last = np.clip([self.cumulative(low), self.cumulative(high)], TAIL, 1 - TAIL).tolist()
        return first, last

    def ends(self) -> list[Any]:
        """Both ends of a bounded range; of an unbounded one the middle, as only far draws may leave a trainer's limits."""
        if all(map(math.isfinite, self.support)):
            return [self.decode(0.0), self.decode(1.0)]  # not the multiple next to an end, which may never be drawn
        return [self.decode(0.5)]

    def n_values(self) -> float:
        low, high = self.support
        return math.inf if self.q is None else (high - low) / self.q + 2

    def grid(self) -> list[Any] | None:
        if self.q is None or not all(map(math.isfinite, self.support)):
            return None
        first, last = (round(number / self.q) for number in self.support)
        return [value for value in (multiple(i * self.q, self.q) for i in range(first, last + 1)) if self.contains(value)]


@dataclass(frozen=True)
class UniformSteps(Quantile):
    """`q_uniform`: in a grid W&B counts from `min` in steps of q, and leaves out `max`."""

    def grid(self) -> list[Any] | None:
        assert self.q is not None
        steps = np.arange(*self.support, self.q).tolist() or [self.decode(0.5)]  # where min and max are the same
        return [whole(value) for value in steps]


def multiple(number: float, q: float) -> float | int:
    """Round to the nearest multiple of q, halves to the even one, as numpy and so W&B do."""
    return whole(round(number / q) * q)


def whole(number: float) -> float | int:
    """Return 3 for 3.0: W&B hands numbers over as JSON, which does not tell them apart."""
    return int(number) if float(number).is_integer() else number


def _text(value: Any) -> str:
    """Return what W&B, whose configs are JSON, compares values by: keys are texts, and 3.0 is 3."""
    return json.dumps(_plain(value), sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return whole(value) if isinstance(value, float) else value


def _hashable(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else _text(value)


def uniform(path: Path, low: float, high: float) -> Parameter:
    """X uniform in [low, high]."""
    return Parameter(path, Range(float(low), float(high)))


def int_uniform(path: Path, low: int, high: int) -> Parameter:
    """A whole number in [low, high], each as likely."""
    return Parameter(path, Range(low, high, only_whole=True))


def log_uniform(path: Path, low: float, high: float) -> Parameter:
    """X in [low, high] with log(X) uniform; log(1/X) is so, too, which makes it W&B's `inv_log_uniform_values` as well."""
    return Parameter(path, Range(float(low), float(high), log=True))


def q_uniform(path: Path, low: float, high: float, q: float) -> Parameter:
    """round(X / q) * q with X uniform in [low, high]."""
    span = high - low
    return UniformSteps(path, UNIT, lambda u: low + u * span, lambda x: (x - low) / span if span else 0.5, (low, high), q)


def q_log_uniform(path: Path, low: float, high: float, q: float) -> Parameter:
    """round(X / q) * q with log(X) uniform between log(low) and log(high)."""
    first, span = math.log(low), math.log(high) - math.log(low)
    return Quantile(
        path,
        UNIT,
        lambda u: math.exp(first + u * span),
        lambda x: (math.log(x) - first) / span if span else 0.5,
        (low, high),
        q,
    )


def normal(path: Path, mu: float, sigma: float, q: float | None = None) -> Parameter:
    """X normal with mean mu and standard deviation sigma."""
    from scipy.special import ndtr, ndtri

    return Quantile(path, UNIT, lambda u: mu + sigma * ndtri(u), lambda x: ndtr((x - mu) / sigma), (-math.inf, math.inf), q)


def log_normal(path: Path, mu: float, sigma: float, q: float | None = None) -> Parameter:
    """X with log(X) normal with mean mu and standard deviation sigma."""
    from scipy.special import ndtr, ndtri

    def cumulative(x: float) -> float:
        return ndtr((math.log(x) - mu) / sigma) if x > 0 else 0.0

    return Quantile(path, UNIT, lambda u: math.exp(mu + sigma * ndtri(u)), cumulative, (0.0, math.inf), q)


def beta(path: Path, a: float, b: float, q: float | None = None) -> Parameter:
    """X in [0, 1], beta-distributed with the shapes a and b."""
    from scipy.special import betainc, betaincinv

    return Quantile(path, UNIT, lambda u: betaincinv(a, b, u), lambda x: betainc(a, b, x), (0.0, 1.0), q)
