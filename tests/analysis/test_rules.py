"""The grammar of rules: what a text means, and the sentence for every text that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.analysis.rules import Condition, Rule, parse_rule
from paretune.core.errors import UsageError
from paretune.core.quoted_names import quoted

METRICS = st.sampled_from(["f1", "precision", "recall", "test_loss", "n_parameters", "val/top-1.acc"])
NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("f1", Rule("f1", "max", "f1")),
        ("knee", Rule("knee", "knee")),
        ("max:precision", Rule("max:precision", "max", "precision")),
        ("min:test_loss", Rule("min:test_loss", "min", "test_loss")),
        ("run:abc", Rule("run:abc", "run", "abc")),
        ("run:then >= within", Rule("run:then >= within", "run", "then >= within")),
    ],
)
def test_a_rule_of_one_word_is_read(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@given(
    conditions=st.lists(st.builds(Condition, METRICS, st.sampled_from([">=", "<="]), NUMBERS), max_size=3),
    aim=st.sampled_from([("max", "f1"), ("min", "seconds"), ("knee", "")]),
    tolerance=st.none() | st.tuples(st.floats(0, 99.9), METRICS),
    space=st.sampled_from(["", " ", "   "]),
)
def test_every_rule_that_is_written_is_read_back(
    conditions: list[Condition], aim: tuple[str, str], tolerance: tuple[float, str] | None, space: str
) -> None:
    text = " and ".join(f"{one.metric}{space}{one.sign}{space}{one.bound!r}" for one in conditions)
    text += " then " if conditions else ""
    text += ":".join(part for part in aim if part)
    text += f" within {tolerance[0]!r}% of best {tolerance[1]}" if tolerance else ""
    rule = parse_rule(text)
    assert (rule.text, rule.kind, rule.name) == (text, *aim)
    assert rule.conditions == tuple(conditions)
    assert (rule.tolerance, rule.tolerated) == ((tolerance[0] / 100, tolerance[1]) if tolerance else (None, ""))
    assert rule.filters == bool(conditions or tolerance)


@pytest.mark.parametrize(
    "name", ["val accuracy", "val/accuracy", "val-accuracy", "top 1.5", "layer.0 acc", "knee", "f1", "the best"]
)
@pytest.mark.parametrize("marks", ["", "`"])
def test_every_form_takes_names_with_spaces_and_signs(name: str, marks: str) -> None:
    metric = f"{marks}{name}{marks}"
    assert (parse_rule(f"max:{metric}").kind, parse_rule(f"max:{metric}").name) == ("max", name)
    assert parse_rule(f"min: {metric}").name == name
    rule = parse_rule(f"{metric}>=0.5 and {metric} <= 2 then max:{metric} within 1% of the best {metric}")
    assert (rule.kind, rule.name, rule.tolerance, rule.tolerated) == ("max", name, 0.01, name)
    assert rule.conditions == (Condition(name, ">=", 0.5), Condition(name, "<=", 2.0))
    assert parse_rule(f"knee within 2 % of best {metric}").tolerated == name
    assert parse_rule(f"run:{metric}").name == name


@pytest.mark.parametrize("name", ["this and that", "then", "a within 1% of best b", "a>=b", "x = y", "two  spaces"])
def test_a_name_that_holds_the_grammars_words_and_signs_stands_in_backquotes(name: str) -> None:
    rule = parse_rule(f"`{name}`>=0.5 then min:`{name}` within 1% of best `{name}`")
    assert (rule.name, rule.tolerated, rule.conditions) == (name, name, (Condition(name, ">=", 0.5),))
    assert parse_rule(f"max:{quoted(name)}").name == name


@pytest.mark.parametrize("text", ["max:f1 then min:x", "max:this and that", "max:`a`b", "max:a `b`", "f1>=1 then max:a then b"])
def test_what_is_no_single_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a metric must be named by itself, in backquotes where"):
        parse_rule(text)


@pytest.mark.parametrize("text", ["max:`f1", "max:``", "`x>=1 then f1"])
def test_a_backquote_that_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^rule '.*' (opens a backquote and does not close it|names nothing between)"):
        parse_rule(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "rule '' is not known; there are f1, knee"),
        ("kne", "rule 'kne' is not known; did you mean 'knee'?"),
        ("maxi:f1", "rule 'maxi:f1' is not known; did you mean 'max:f1'?"),
        ("largest:f1", "rule 'largest:f1' is not known; there are f1, knee"),
        ("recall>=0.9", "rule 'recall>=0.9' says which runs may be chosen, and not which of them: write … then max:f1."),
        (
            "recall>=0.9 than f1",
            "rule 'recall>=0.9 than f1' says which runs may be chosen, and not which of them; did you mean 'then'?",
        ),
        ("recall>=0.9 or f1>=1 then f1", "rule 'recall>=0.9 or f1>=1 then f1': 'recall>=0.9 or f1>=1' is not a condition"),
        ("recall=>0.9 then f1", "rule 'recall=>0.9 then f1': 'recall=>0.9' is not a condition"),
        ("recall>0.9 then f1", "rule 'recall>0.9 then f1': 'recall>0.9' is not a condition"),
        ("precision >= .7 then", "rule 'precision >= .7 then' ends with then: write behind it which run is chosen"),
        ("max:`a` then", "rule 'max:`a` then' ends with then"),
        ("recall>=high then f1", "rule 'recall>=high then f1': 'high' must be a number"),
        ("recall>=nan then f1", "rule 'recall>=nan then f1': 'nan' must be a number"),
        ("recall>=0.9 then kneee", "rule 'recall>=0.9 then kneee' is not known; did you mean 'knee'?"),
        (
            "min:f1 within 1 of best f1",
            "rule 'min:f1 within 1 of best f1' is not known: write, for example, min:n_parameters within",
        ),
        ("min:f1 within x% of best f1", "rule 'min:f1 within x% of best f1': 'x' must be a number"),
        ("min:f1 within 100% of best f1", "rule 'min:f1 within 100% of best f1': within must be at least 0% and less than 100%"),
    ],
)
def test_a_text_that_is_no_rule_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_rule(text)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("aim", ["max:val: loss", "max: val: loss"])
def test_a_name_keeps_its_colon_and_what_follows(aim: str) -> None:
    rule = parse_rule(f"val: acc>=0.5 then {aim} within 1% of best val: f1")
    assert (rule.kind, rule.name, rule.tolerated, rule.conditions[0].metric) == ("max", "val: loss", "val: f1", "val: acc")


def test_a_run_may_stand_behind_a_space() -> None:
    assert parse_rule("run: abc") == Rule("run: abc", "run", "abc")
