"""Names that differ stay different however they are shortened, in the library and on the pages."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretune.core.short_names import cut, shortened
from tests.samples import ROOT

ALIKE = st.builds(lambda *parts: "".join(parts), *[st.sampled_from(["", "learning_rate_schedule", "x" * 30, "-7", "…", "ä"])] * 5)


@given(st.lists(st.one_of(st.text(max_size=60), ALIKE), max_size=40), st.integers(8, 40))
def test_different_names_are_different_fit_and_short_ones_are_left_alone(names: list[str], most: int) -> None:
    found = shortened(names, most)
    assert all(len(short) <= most for short in found)
    assert all(short == name for name, short in zip(names, found, strict=True) if len(name) <= most)
    assert len(set(found)) == len(set(names))
    assert len(set(zip(names, found, strict=True))) == len(set(names)), "one name is shortened in one way"


@pytest.mark.parametrize(
    ("names", "most", "short"),
    [
        (["categorical_crossentropy", "hinge"], 12, ["categorical…", "hinge"]),
        (["my_long_experiment_name_a", "my_long_experiment_name_b"], 12, ["my_…_a", "my_…_b"]),
        (["resnet50_imagenet_v1_224", "resnet50_imagenet_v2_224"], 12, ["res…v1_224", "res…v2_224"]),
    ],
)
def test_what_tells_names_apart_is_what_is_kept(names: list[str], most: int, short: list[str]) -> None:
    assert shortened(names, most) == short


LONG_TAIL = "the-same-end-of-all-of-them" * 2


@pytest.mark.parametrize("name", ["{:05}-" + LONG_TAIL, "the-same-begin-of-all-of-them-{:05}", "the-same-begin-{:05}-" + LONG_TAIL])
def test_thousands_of_names_take_no_longer_than_their_number_says(name: str) -> None:
    names = [name.format(number) for number in range(8000)]
    few, many = (_seconds(names[:count]) for count in (1000, 8000))
    assert many < 8 * 4 * few, "linear, not quadratic"
    assert len(set(shortened(names, 24))) == len(names)


def _seconds(names: list[str]) -> float:
    def once() -> float:
        begin = time.perf_counter()
        shortened(names, 24)
        return time.perf_counter() - begin

    return min(once() for _ in range(3))


def test_a_single_name_keeps_both_ends() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("/data/users/someone/run-17.json", 11) == "/data….json"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the pages' scripts with")
def test_the_pages_shorten_as_the_library_does() -> None:
    draw = random.Random(0)
    words = ["learning_rate_schedule", "x" * 30, "-7", "v1", "v2", "_", "ab"]
    cases = [[["".join(draw.choices(words, k=draw.randint(0, 5))) for _ in range(draw.randint(0, 12))], 14] for _ in range(200)]
    program = (
        f"import {{ shortened }} from {json.dumps((ROOT / 'paretune/service/web/static/names.js').as_uri())};"
        "const many = Array.from({length: 20000}, (_, number) => 'the/same/begin/of/all'.repeat(3) + number + 'end'.repeat(9));"
        "if (new Set(shortened(many, 16)).size < many.length) throw new Error('two names are one');"  # in time
        f"console.log(JSON.stringify({json.dumps(cases)}.map(([names, most]) => shortened(names, most))));"
    )
    done = subprocess.run(["node", "--input-type=module", "-e", program], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [shortened(names, most) for names, most in cases]
