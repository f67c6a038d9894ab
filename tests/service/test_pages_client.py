"""The pages of what the unmodified client logs, at the addresses that it prints."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.service.serving import KEY, client, listening

pytestmark = pytest.mark.slow


def test_the_address_that_the_client_prints_shows_the_run(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    with listening(tmp_path / "service") as address, httpx2.Client(base_url=address, follow_redirects=True) as browser:
        found = client(
            address,
            tmp_path / "program",
            """
            import json, numpy, wandb
            run = wandb.init(project="tried", name="the first", config={"lr": 0.1, "net": {"width": 8}}, notes="hello")
            for step in range(5):
                run.log({"loss": 1 / (step + 1), "hist": wandb.Histogram([1, 2, 2, 3])})
            print("a \\x1b[31mred\\x1b[0m line of the console")
            matrix = wandb.plot.confusion_matrix(y_true=[0, 0, 1, 1], preds=[0, 1, 1, 1], class_names=["cat", "dog"])
            picture = wandb.Image(numpy.zeros((8, 8), dtype=numpy.uint8))
            table = wandb.Table(columns=["word", "count"], data=[["one", 1], ["two", 2]])
            run.log({"matrix": matrix, "picture": picture, "table": table})
            run.finish()
            print(json.dumps([run.url, run.project_url]))
            """,
        )
        run, project = (urlsplit(url).path for url in found)
        browser.post("/login", content=f"key={KEY}")
        page = browser.get(run).text
        assert "<h1>the first</h1>" in page
        for text in ('title="cat read as dog: 1 (50.0 %)"', ">net.width</th>", ">two</td>", "hello", "(histogram)", "config.yaml"):
            assert text in page, text
        (image,) = re.findall(r'<img loading="lazy" src="([^"]+)" alt="picture at step 5"', page)
        answer = browser.get(image)
        assert (answer.headers["content-type"], answer.content[:4]) == ("image/png", b"\x89PNG")
        curves = browser.get(f"{run}/history.json").json()
        assert curves["series"]["loss"][1] == [1 / (step + 1) for step in range(5)]
        lines = [text for _, text in browser.get(f"{run}/console.json").json()["lines"]]
        assert "a red line of the console" in lines
        assert ">the first</a>" in browser.get(project).text
