"""The catalogues: complete, without a translation that nobody asks for, and with the places of the English text."""

from __future__ import annotations

import ast
import string
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from paretune.analysis.document.language import LANGUAGES, catalogue, speak, spoken, translate
from paretune.core.errors import UsageError
from tests.samples import ROOT

SAYING = [*sorted((ROOT / "analysis").rglob("*.py")), ROOT / "paretune" / "search" / "importance.py"]
OTHERS = [language for language in LANGUAGES if language != "en"]


def asked() -> Iterator[tuple[str, str]]:
    """Yield every text that the code gives to `_`, with its place."""
    for path in SAYING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                (argument,) = node.args
                if isinstance(argument, ast.Constant):
                    yield argument.value, f"{path.name}:{node.lineno}"


def words() -> Iterator[tuple[str, str]]:
    """Yield the values of the tables of words that the code looks up and gives to `_`, with the table's name."""
    for path in SAYING:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict | ast.Tuple):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if isinstance(target, ast.Name) and target.id.endswith(("LABELS", "WORDS")):
                    for constant in ast.walk(node.value):
                        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                            yield constant.value, f"{path.name}: {target.id}"


def places(text: str) -> Counter[str]:
    return Counter(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_has_its_translation(language: str) -> None:
    known = catalogue(language)
    assert [(place, text) for text, place in asked() if text not in known] == []


@pytest.mark.parametrize("language", OTHERS)
def test_no_translation_stands_unused(language: str) -> None:
    used = {text for text, _ in asked()} | {text for text, _ in words()}
    assert set(catalogue(language)) - used == set()


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_fills_in_the_same_names(language: str) -> None:
    assert [text for text, said in catalogue(language).items() if set(places(text)) != set(places(said))] == []


@pytest.mark.parametrize("language", OTHERS)
def test_no_text_is_translated_twice(language: str) -> None:
    keys = Counter[str]()
    for path in (ROOT / "analysis" / "document" / "locale" / language).glob("*.yaml"):
        node = yaml.compose(path.read_text(encoding="utf-8"))
        keys.update(key.value for key, _ in node.value)
    assert [key for key, count in keys.items() if count > 1] == []


def test_a_language_is_spoken_in_its_block_alone() -> None:
    text = next(iter(catalogue("es")))
    assert translate(text) == text
    with speak("es"):
        assert (spoken(), translate(text)) == ("es", catalogue("es")[text])
        assert translate("no catalogue holds this") == "no catalogue holds this"
    assert spoken() == "en"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--language must be one of en \(English\), es \(Spanish\). Got 'sp'"), speak("sp"):
        pass
