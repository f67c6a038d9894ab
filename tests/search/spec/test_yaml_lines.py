"""A sweep's YAML is read with its lines; whatever is in the file, a person gets a sentence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from paretune.core.errors import UsageError
from paretune.search.spec.yaml_lines import Definition, check_keys, number_in_yaml, read_definition


def read(folder: Path, text: str | bytes) -> Definition:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_definition(path)


def test_values_are_those_of_safe_load_and_every_place_has_its_line(tmp_path: Path) -> None:
    text = "a: 1\n# comment\nb:\n  c: [1,\n    2]\n  d:\n    - x\n    - e: 3\n"
    definition = read(tmp_path, text)
    assert definition.values == yaml.safe_load(text)
    assert definition.lines == {
        ("a",): 1,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "d"): 6,
        ("b", "d", 0): 7,
        ("b", "d", 1): 8,
        ("b", "d", 1, "e"): 8,
    }


def test_a_place_that_is_not_there_has_the_line_of_what_is_around_it(tmp_path: Path) -> None:
    definition = read(tmp_path, "a: 1\nb:\n  c: 3\n")
    assert definition.line(("b", "x", 0)) == 2
    assert definition.line(("x",)) == 0


def test_faults_are_said_all_at_once_once_each_and_by_line(tmp_path: Path) -> None:
    definition = read(tmp_path, "a: 1\nb: 2\n")
    definition.check()
    for place, sentence in ((("b",), "second."), (("a",), "first."), (("b",), "second."), (("x",), "nowhere.")):
        definition.fault(place, sentence)
    with pytest.raises(UsageError) as refusal:
        definition.check()
    path = tmp_path / "a.yaml"
    assert str(refusal.value).splitlines() == [f"{path}: nowhere.", f"{path}:1: first.", f"{path}:2: second."]


def test_an_unknown_key_gets_what_is_near_or_what_there_is(tmp_path: Path) -> None:
    definition = read(tmp_path, "a:\n  colour: 1\n  zzz: 2\n  1: 3\n")
    check_keys(definition, definition.values["a"], ("color", "size"), ("a",), "a thing")
    assert definition.faults == [
        (2, "a.colour is not a key of a thing; did you mean 'color'?"),
        (3, "a.zzz is not a key of a thing; there are color, size."),
        (4, "a.1 is not a key of a thing; there are color, size."),
    ]


@pytest.mark.parametrize(
    ("written", "trap"),
    [
        ("1e-4", "; YAML reads 1e-4 as text: write 0.0001"),
        ("1E5", "; YAML reads 1E5 as text: write 100000.0"),
        ("1e999", "; YAML reads 1e999 as text"),
        ("yes", "; YAML reads the bare word yes as True: write 'yes'"),
        ("Off", "; YAML reads the bare word Off as False: write 'Off'"),
        ("010", "; YAML reads 010 as 8: write 8 if that is meant, a text in quotes"),
        ("1:30", "; YAML reads 1:30 as 90: write 90 if that is meant, a text in quotes"),
        ("1:30.5", "; YAML reads 1:30.5 as 90.5: write 90.5 if that is meant, a text in quotes"),
        *(
            (plain, "")
            for plain in ("true", "False", "1.0e-4", "10", "0", "0.5", "-3", "text", "'010'", "'yes'", '"1e-4"', "~", "0x1f")
        ),
    ],
)
def test_what_yaml_reads_as_another_thing_is_known(tmp_path: Path, written: str, trap: str) -> None:
    definition = read(tmp_path, f"a:\n  b: [{written}]\n  c: {written}\n")
    assert definition.trap(("a", "b", 0)) == definition.trap(("a", "c")) == trap


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ":1: a sweep must be a mapping with program, method, metric and parameters. Got an empty file."),
        ("# only a comment\n", ":1: a sweep must be a mapping with program, method, metric and parameters. Got an empty file."),
        ("- 1\n", "Got a list."),
        ("just words\n", "Got a text."),
        ("3\n", "Got 3."),
        ("a: 1\nb: [1, 2\nc: 3\n", ":2: a list '[' is opened here and not closed in its place"),
        ("a: {b: 1\n", ":1: a mapping '{' is opened here and not closed in its place"),
        ("a: 1\nb: 'x\n\n", ":2: a quoted text is opened here and not closed in its place"),
        ("a: b: c\n", ":1: not valid YAML (mapping values are not allowed here; a text that holds ': ' stands in quotes"),
        ("a:\n\tb: 1\n", ":2: a tab begins something here; YAML indents with spaces only: replace it by spaces."),
        ("a: *x\n", ":1: not valid YAML (found undefined alias 'x')."),
        ("a: 1\n---\nb: 2\n", ":2: '---' begins a second document; a sweep is one: give each a file of its own."),
        ("a: !!python/object:os.system x\n", ":1: not valid YAML (could not determine a constructor"),
        ("? [a]\n: 1\n", "not valid YAML (found unhashable key"),
        ("a: \x01\n", ": not valid YAML ("),
        ("a:\n  b: &x\n    c: [*x]\n", ":2: an anchor that begins here is used inside itself: remove that."),
        ("a: &x [1, *x]\n", ":1: an anchor that begins here is used inside itself: remove that."),
        ("a: 2026-13-40\n", "YAML cannot read a value in it (month must be in 1..12): put it in quotes."),
        ("a: !!bool perhaps\n", "YAML cannot read a value in it"),
        ("a: !!int ''\n", "YAML cannot read a value in it"),
        ("a: !!timestamp x\n", "YAML cannot read a value in it"),
        ("a: " + "[" * 2000 + "]" * 2000 + "\n", "cannot be read: lists or mappings are nested too deeply in it."),
        (b"name: caf\xe9\n", ": cannot be read as UTF-8 text: save it with the encoding UTF-8."),
        (b"\xff\xfea\x00", ": cannot be read as UTF-8 text: save it with the encoding UTF-8."),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_in_words(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, text)
    assert str(refusal.value).startswith(str(tmp_path / "a.yaml"))
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("row", ["- [{}]", "<<: [{}]"])
def test_anchors_in_anchors_that_stand_for_billions_are_refused_at_once(tmp_path: Path, row: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 10):
        inner = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level}" + (f" {{{row.format(inner)}}}" if row[0] == "<" else f" [{inner}]"))
    with pytest.raises(UsageError, match=r"holds more than 100,000 values once its anchors are written out"):
        read(tmp_path, "\n".join(lines))


def test_an_anchor_that_is_used_again_is_no_fault(tmp_path: Path) -> None:
    definition = read(tmp_path, "a: &x\n  b: 1\nc:\n  <<: *x\n  d: 2\ne: *x\n")
    assert definition.values == {"a": {"b": 1}, "c": {"b": 1, "d": 2}, "e": {"b": 1}}
    assert (definition.faults, definition.line(("e", "b"))) == ([], 6)


def test_a_key_that_is_written_twice_is_a_fault_at_its_line(tmp_path: Path) -> None:
    definition = read(tmp_path, "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n")
    assert definition.faults == [
        (5, "b.c is written twice (first on line 3); YAML keeps the last: remove one."),
        (6, "a is written twice (first on line 1); YAML keeps the last: remove one."),
    ]


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\n").values == {"a": 1}


def test_a_missing_file_gets_a_suggestion(tmp_path: Path) -> None:
    read(tmp_path, "a: 1\n").path.rename(tmp_path / "softmax.yaml")
    with pytest.raises(UsageError, match=r"there is no such file; did you mean 'softmax.yaml'"):
        read_definition(tmp_path / "sofmax.yaml")
    for unlike in ("nofile.yaml", "syn.yaml", "x.yaml"):  # the ending alone makes no two names alike
        with pytest.raises(UsageError, match="there is no such file; give the path of a sweep YAML"):
            read_definition(tmp_path / unlike)
    with pytest.raises(UsageError, match="there is no such file; give the path of a sweep YAML"):
        read_definition(tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(UsageError, match=r": is a folder: give the path of a sweep YAML\.$"):
        read_definition(tmp_path)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_so_that_yaml_reads_it(number: float) -> None:
    read = yaml.safe_load(f"a: {number_in_yaml(number)}")["a"]
    assert isinstance(read, float)
    assert math.copysign(1, read) == math.copysign(1, number)
    assert read == number


def test_values_that_json_has_not_are_read_too(tmp_path: Path) -> None:
    values: dict[str, Any] = read(tmp_path, "a: 2026-01-02\nb: .inf\nc: !!binary aGk=\nd: !!set {x, y}\n").values
    assert [type(value).__name__ for value in values.values()] == ["date", "float", "bytes", "set"]
