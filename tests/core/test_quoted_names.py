"""Names in backquotes: taken out of a text, found where their backquotes are missing, left alone in quoted texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.core.quoted_names import doubtful_names, quoted, take_names, unquoted_name

KNOWN = ["val/loss", "val/loss/top", "val-loss", "val loss", "layer.0.loss", "a.b", "loss", "1e-3", "0.5", "top-1", "lambda"]


@pytest.mark.parametrize("name", ["loss", "a.b.c", "épreuve", "_x1"])
def test_a_plain_word_needs_no_backquotes(name: str) -> None:
    assert quoted(name) == name


@pytest.mark.parametrize("name", ["val/loss", "val-loss", "val loss", "layer.0.loss", "lambda", "5-fold", "a.", ".a", "loss@5"])
def test_every_other_name_does(name: str) -> None:
    assert quoted(name) == f"`{name}`"


@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="`\0"), min_size=1).filter(lambda text: text.strip() == text), max_size=4
    )
)
def test_names_in_backquotes_are_what_they_are(names: list[str]) -> None:
    text, by_word = take_names(" + ".join(f"`{name}`" for name in names))
    assert [by_word[word] for word in text.replace("+", " ").split()] == names


def test_a_backquote_within_a_quoted_text_is_a_letter() -> None:
    text, names = take_names("kind == '`x`' and other != \"it`s\" and `name_ 0` > 1")
    assert list(names.values()) == ["name_ 0"]
    assert text.startswith("kind == '`x`' and other != \"it`s\" and ")


@pytest.mark.parametrize("text", ["`val/loss <= 2", "a`", "`` > 1", "`  ` > 1", "`a` `"])
def test_backquotes_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="backquote"):
        take_names(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("val/loss <= 2.5", "val/loss"),
        ("2.5 >= val/loss", "val/loss"),
        ("val/loss/top <= 1", "val/loss/top"),
        ("val-loss-1 < 0", "val-loss"),
        ("not (val loss > 2)", "val loss"),
        ("layer.0.loss > 1", "layer.0.loss"),
        ("x == 'val/loss' and top-1 > 0.9", "top-1"),
    ],
)
def test_a_known_name_without_its_backquotes_is_found(text: str, name: str) -> None:
    assert unquoted_name(text, KNOWN) == name


@pytest.mark.parametrize(
    "text",
    [
        "`val/loss` <= 2.5",
        "val / loss <= 2.5",
        "x == 'val/loss'",
        "eval/loss > 1",
        "val/losses > 1",
        "a.b > 0.5",
        "x <= 1e-3",
        "loss > 1",
    ],
)
def test_what_is_written_as_it_should_be_is_not(text: str) -> None:
    assert unquoted_name(text, KNOWN) == ""


def test_a_division_without_spaces_by_what_nobody_knows_is_doubtful() -> None:
    assert doubtful_names("val/acc > 0.5 and loss/2 < 1 and x - y > 0 and `a/b` > 1 and loss-a.b > 0", KNOWN) == ["val/acc"]
