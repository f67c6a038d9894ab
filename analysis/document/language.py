"""What the report says, in the language of its reader: English as it stands in the code, or a catalogue's translation.

A catalogue is YAML below `analysis/document/locale/LANGUAGE/`: the English text as key, its translation as value. Text that
reaches the report stands in the code as `_("… {name} …").format(name=…)`, with `_` for `translate`, inside functions: what is
translated when a module is imported would stay English.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

from paretune.core.errors import UsageError, did_you_mean

LANGUAGES = {"en": "English", "es": "Spanish"}
_spoken: ContextVar[str] = ContextVar("language", default="en")


def translate(text: str) -> str:
    """Return a text of the code in the language that is spoken; as it stands where the catalogue lacks it."""
    language = _spoken.get()
    return text if language == "en" else catalogue(language).get(text, text)


def spoken() -> str:
    """Return the language that is spoken, by its ISO 639-1 code."""
    return _spoken.get()


@contextlib.contextmanager
def speak(language: str) -> Iterator[None]:
    """Speak a language in a block.

    Raises:
        UsageError: if there is no catalogue for it.
    """
    if language not in LANGUAGES:
        names = ", ".join(f"{code} ({name})" for code, name in LANGUAGES.items())
        raise UsageError(f"--language must be one of {names}. Got {language!r}{did_you_mean(language, LANGUAGES) or '.'}")
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


@functools.cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return the translations of a language, English text -> text."""
    import yaml

    found: dict[str, str] = {}
    for path in sorted((Path(__file__).parent / "locale" / language).glob("*.yaml")):
        found |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return found
