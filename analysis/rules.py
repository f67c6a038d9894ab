"""The grammar of the rules by which a run is chosen: text to Rule, every fault one sentence.

rule       = [conditions "then"] aim ["within" NUMBER"%" "of" "best" METRIC] | "run:"ID
aim        = "f1" | "knee" | "max:"METRIC | "min:"METRIC
conditions = condition {"and" condition};   condition = METRIC (">=" | "<=") NUMBER

A METRIC may hold spaces, slashes and hyphens; one that holds a word or sign of the grammar stands in backquotes:
max:`this and that`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretune.core.errors import UsageError, did_you_mean
from paretune.core.quoted_names import take_names

RULES = ("f1", "knee", "max:METRIC", "min:METRIC", "run:ID", "METRIC>=NUMBER then RULE", "RULE within NUMBER% of best METRIC")
CONDITION = re.compile(r"\s*([^<>=]*[^<>=\s])\s*(>=|<=)\s*(\S+)\s*")
WITHIN = re.compile(r"(.*?)\s+within\s+(\S+?)\s*%\s+of\s+(?:the\s+)?best\s+(.+)")
WORDS = re.compile(r"\s(?:then|and|within)\s|[<>=]")  # of the grammar, and so of no name without backquotes


@dataclass(frozen=True)
class Condition:
    """A bound that a run's metric must keep."""

    metric: str
    sign: str  # >= or <=
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.bound:g}"


@dataclass(frozen=True)
class Rule:
    """What a rule says: `kind` is max, min, knee or run; `name` the metric or the run."""

    text: str
    kind: str
    name: str = ""
    conditions: tuple[Condition, ...] = ()
    tolerance: float | None = None  # share of the best value of `tolerated` that a run may lack
    tolerated: str = ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the rule names."""
        named = [self.name] if self.kind in ("max", "min") else []
        return (*named, *(condition.metric for condition in self.conditions), *filter(None, [self.tolerated]))

    @property
    def filters(self) -> bool:
        """Whether the rule says itself which runs may be chosen, rather than leaving it to the front."""
        return bool(self.conditions) or self.tolerance is not None


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        UsageError: saying which part is not understood, and what can stand there.
    """
    rest = " ".join(text.split())
    if rest.startswith("run:") and rest != "run:":
        return Rule(text, "run", rest.removeprefix("run:").strip("` "))
    try:
        rest, names = take_names(text)
    except ValueError as error:
        raise UsageError(f"rule {text!r} {error}.") from None
    rest = " ".join(rest.split())
    if rest == "then" or rest.endswith(" then"):
        raise UsageError(f"rule {text!r} ends with then: write behind it which run is chosen, as in … then max:f1.")
    conditions: tuple[Condition, ...] = ()
    if re.search(r"[<>=]", rest):
        before, then, rest = rest.partition(" then ")
        if not then:
            near = "" if " " not in before else did_you_mean(_word_after_number(before), ["then"])
            raise UsageError(
                f"rule {text!r} says which runs may be chosen, and not which of them{near or ': write … then max:f1.'}"
            )
        conditions = tuple(_condition(text, part, names) for part in re.split(r"\s+and\s+", before))
    tolerance, tolerated = None, ""
    found = WITHIN.fullmatch(rest)
    if found:
        rest, tolerated = found[1], _metric(text, found[3], names)
        tolerance = _number(text, found[2]) / 100
        if not 0 <= tolerance < 1:
            raise UsageError(f"rule {text!r}: within must be at least 0% and less than 100%. Got {found[2]}%.")
    kind, _, name = rest.partition(":")
    if rest == "f1":
        kind, name = "max", "f1"
    elif kind in {"max", "min"} and name:
        name = _metric(text, name, names)
    elif rest != "knee":
        raise UsageError(f"rule {text!r} is not known{_nearest(rest)}")
    return Rule(text, kind, name, conditions, tolerance, tolerated)


def _metric(text: str, word: str, names: Mapping[str, str]) -> str:
    """Return the name of a metric, as it stands or in backquotes; in an own name no word of the grammar can stand."""
    word = word.strip()
    if word in names:
        return names[word]
    if " within" in word:
        raise UsageError(f"rule {text!r} is not known{_nearest(word)}")
    found = WORDS.search(word)
    if found or any(stem in word for stem in names):
        raise UsageError(
            f"rule {text!r}: a metric must be named by itself, in backquotes where its name holds and, then, within, <, > or =: "
            "max:`this and that`."
        )
    return word


def _condition(text: str, part: str, names: Mapping[str, str]) -> Condition:
    found = CONDITION.fullmatch(part)
    if not found:
        raise UsageError(
            f"rule {text!r}: {part.strip()!r} is not a condition: write METRIC>=NUMBER or METRIC<=NUMBER, joined by and."
        )
    return Condition(_metric(text, found[1], names), found[2], _number(text, found[3]))


def _number(text: str, written: str) -> float:
    try:
        number = float(written)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"rule {text!r}: {written!r} must be a number, as in recall>=0.98.")
    return number


def _word_after_number(before: str) -> str:
    words: Sequence[str] = before.split()
    return next((word for word in words[1:] if word.isalpha() and word != "and"), "")


def _nearest(rest: str) -> str:
    """Return what was probably meant, or which rules there are."""
    if " within" in rest:
        return ": write, for example, min:n_parameters within 0.5% of best f1."
    kind, colon, name = rest.partition(":")
    if colon and name:
        near = did_you_mean(kind, ["max", "min", "run"])
        return near.replace("'?", f":{name}'?") if near else f"; there are {', '.join(RULES)}."
    return did_you_mean(rest, ["f1", "knee"]) or f"; there are {', '.join(RULES)}."
