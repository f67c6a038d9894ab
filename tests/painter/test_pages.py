"""The painter's requests, without a browser: answers, sentences for what is unfit, languages, and a place below another page."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from paretune.data.digit_form import mnist_form
from paretune.models.saved_models import save
from paretune.painter import pages
from paretune.painter.drawings import Drawings
from paretune.painter.models import Models
from paretune.painter.pages import application
from tests.painter.photos import photo_of
from tests.painter.strokes import drawings
from tests.painter.test_models import model_of
from tests.painter.writing import ink_of, png_of
from tests.samples import ROOT

PAINTER = ROOT / "paretune" / "painter"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        save(model_of(), folder / name, metrics={})
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> Iterator[TestClient]:
    models = Models([folder], device="cpu")
    models.refresh()
    with TestClient(application(models, Drawings(tmp_path / "drawings")), base_url="http://127.0.0.1:8080") as client:
        yield client


def sent(digit: int = 3, **values: Any) -> dict[str, Any]:
    """What the page sends to save a drawing."""
    drawing = drawings()[digit]
    image = "data:image/png;base64," + base64.b64encode(png_of(drawing)).decode()
    return {"label": str(drawing.digit), "image": image, "strokes": drawing.strokes, "painter": 12, **values}


def test_each_model_answers_in_a_line(client: TestClient) -> None:
    response = client.post("/api/read", content=png_of(drawings()[4]))
    assert response.headers["content-type"] == "application/x-ndjson"
    first, *answers = [json.loads(line) for line in response.text.splitlines()]
    assert {answer["model"] for answer in answers} == {"one", "two"}
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    with Image.open(io.BytesIO(base64.b64decode(first["forms"]["mnist"].removeprefix("data:image/png;base64,")))) as image:
        np.testing.assert_array_equal(np.asarray(image), np.round(255 * mnist_form(ink_of(drawings()[4]))))


def test_the_models_are_listed_with_the_broken_one(client: TestClient) -> None:
    listed = {model["name"]: model for model in client.get("/api/models").json()}
    assert {name for name, model in listed.items() if not model["problem"]} == {"one", "two"}
    assert "is not a model of format" in listed["broken"]["problem"]
    assert (listed["one"]["kind"], listed["one"]["shape"]) == ("ann", "28×28")


def blank(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (blank((280, 280)), 422, "the drawing is blank: draw a digit first."),
        (blank((5000, 4)), 422, "a drawing may have at most 2048 pixels a side. Got 5000x4."),
        (b"", 422, "the drawing must be a PNG"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 100, 422, "the drawing must be a PNG"),
        (b"x" * (pages.MOST_BYTES + 1), 413, "at most 4,000,000 bytes"),
    ],
)
def test_what_is_no_drawing_gets_a_sentence(client: TestClient, content: bytes, status: int, sentence: str) -> None:
    response = client.post("/api/read", content=content)
    assert response.status_code == status
    assert sentence in response.json()["problem"]
    assert client.post("/api/read", content=png_of(drawings()[0])).status_code == 200


def test_a_drawing_is_saved_once(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/api/drawings").json() == {"counts": dict.fromkeys("0123456789", 0)}
    first = client.post("/api/drawings", json=sent())
    assert first.status_code == 201
    assert first.json()["counts"]["3"] == 1
    assert len(list((tmp_path / "drawings" / "28x28" / "3").glob("*.png"))) == 1
    again = client.post("/api/drawings", json=sent(label="8"))
    assert again.status_code == 409
    sentence = "this very drawing is there already, as a 3: draw another one."
    assert again.json() == {"problem": sentence, "kind": "duplicate", "label": "3"}
    assert client.get("/api/wanted").json()["label"] in set("012456789")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ("[" * 100_000, "must be a JSON object"),
        ("\x00\xff", "must be a JSON object"),
        (json.dumps({"label": "3"}), "image must be a PNG in base64"),
        (json.dumps(sent(image="!!")), "image must be a PNG in base64"),
        (json.dumps(sent(image="AAAA")), "the drawing must be a PNG"),
        (json.dumps(sent(label="seven")), "label must be a digit from 0 to 9. Got 'seven'"),
        (json.dumps(sent(label=["3"])), "label must be a digit from 0 to 9. Got ['3']"),
        (json.dumps(sent(strokes={"x": 1})), "strokes must be lists of points"),
        (json.dumps(sent(painter=True)), "the painter's number must be a whole number"),
    ],
)
def test_wrong_json_gets_a_sentence_and_keeps_nothing(client: TestClient, content: str, sentence: str, tmp_path: Path) -> None:
    response = client.post("/api/drawings", content=content.encode("utf-8", "surrogateescape"))
    assert response.status_code == 422
    assert sentence in response.json()["problem"]
    assert not (tmp_path / "drawings").exists()


def test_all_drawings_come_as_one_zip(client: TestClient) -> None:
    assert client.get("/drawings.zip").status_code == 422
    for digit in (1, 2):
        client.post("/api/drawings", json=sent(digit))
    response = client.get("/drawings.zip")
    assert 'filename="drawings.zip"' in response.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert len(archive.namelist()) == 6


@pytest.mark.parametrize("address", ["/api/read", "/api/photo", "/api/drawings", "/api/empty"])
def test_another_sites_page_cannot_send(client: TestClient, address: str, tmp_path: Path) -> None:
    response = client.post(address, content=json.dumps(sent()), headers={"origin": "https://elsewhere.example"})
    assert response.status_code == 403
    assert "takes drawings from its own page only" in response.json()["problem"]
    assert not (tmp_path / "drawings").exists()
    own = client.post("/api/empty", headers={"origin": "http://127.0.0.1:8080"})
    assert own.status_code == 204


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", ""])
def test_a_name_that_was_made_to_lead_here_is_not_answered(client: TestClient, host: str, tmp_path: Path) -> None:
    for address, method in (("/", "GET"), ("/api/drawings", "POST"), ("/drawings.zip", "GET")):
        response = client.request(method, address, content=json.dumps(sent()), headers={"host": host, "origin": f"http://{host}"})
        assert response.status_code == 421
        assert "open it by its address" in response.json()["problem"]
    assert not (tmp_path / "drawings").exists()


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "192.168.1.7:8080", socket.gethostname()])
def test_addresses_and_the_own_name_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/models", headers={"host": host}).status_code == 200


def test_a_fault_of_ours_is_json_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(Drawings, "counts", fail)
    app = application(Models([folder], device="cpu"), Drawings(tmp_path))
    response = TestClient(app, base_url="http://localhost", raise_server_exceptions=False).get("/api/drawings")
    assert response.status_code == 500
    assert response.json() == {"problem": "the painter failed at this; its terminal says why."}


@pytest.mark.parametrize(
    ("address", "accepted", "language"),
    [
        ("/", "", "en"),
        ("/", "es-CR,es;q=0.9,en;q=0.8", "es"),
        ("/", "fr, en;q=0.5, es;q=0.4", "en"),
        ("/?lang=es", "en", "es"),
        ("/?lang=xx", "es", "es"),
    ],
)
def test_the_page_speaks_the_readers_language(client: TestClient, address: str, accepted: str, language: str) -> None:
    page = client.get(address, headers={"accept-language": accepted})
    assert f'<html lang="{language}">' in page.text
    assert pages.texts(language)["collect"] in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]


def test_the_texts_are_the_same_in_both_languages_and_all_used() -> None:
    texts = {language: yaml.safe_load((PAINTER / f"locale/{language}.yaml").read_text("utf-8")) for language in pages.LANGUAGES}
    assert list(texts["en"]) == list(texts["es"])
    used = (PAINTER / "templates/painter.html").read_text("utf-8") + (PAINTER / "static/painter.js").read_text("utf-8")
    for name in texts["en"]:
        assert f"texts.{name}" in used, name
        holes = [{part.split("}")[0] for part in texts[language][name].split("{")[1:]} for language in pages.LANGUAGES]
        assert holes[0] == holes[1], name


def test_nothing_in_the_page_is_from_elsewhere(client: TestClient) -> None:
    for address in ("/", "/static/painter.js", "/static/painter.css", "/static/icon.svg"):
        response = client.get(address)
        assert response.status_code == 200
        found = [address for address in re.findall(r"https?://[^\s\"']+", response.text) if "www.w3.org" not in address]
        assert found == []


def test_the_painter_works_below_another_page(folder: Path, tmp_path: Path) -> None:
    models = Models([folder], device="cpu")
    models.refresh()
    outer = Starlette(routes=[Mount("/tools/painter", application(models, Drawings(tmp_path), own_names=False))])
    with TestClient(outer) as client:
        assert client.get("/tools/painter/").status_code == 200
        assert str(client.get("/tools/painter?lang=es").url).endswith("/tools/painter/?lang=es")
        assert client.get("/tools/painter/static/painter.js").status_code == 200
        assert client.post("/tools/painter/api/read", content=png_of(drawings()[0])).status_code == 200
        page = client.get("/tools/painter/").text
        assert 'href="/' not in page
        assert 'src="/' not in page


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_a_photo_becomes_a_drawing_that_every_model_reads(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the photo lies on its side: turned by a quarter, it is upright
    photo = photo_of(drawings()[4], seed=4)
    answers = []
    for content in (jpeg(photo, quality=95), jpeg(np.rot90(photo), quality=95, exif=exif)):
        response = client.post("/api/photo", content=content)
        assert response.status_code == 200
        assert response.json()["dark_on_light"] is True
        png = base64.b64decode(response.json()["image"].removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(png)) as drawing:
            assert (drawing.size, drawing.mode) == ((280, 280), "L")
            assert np.asarray(drawing)[:20].max() == 0, "the paper is black, and the digit within"
        first, *lines = [json.loads(line) for line in client.post("/api/read", content=png).text.splitlines()]
        with Image.open(io.BytesIO(base64.b64decode(first["forms"]["mnist"].removeprefix("data:image/png;base64,")))) as form:
            wanted = mnist_form(ink_of(drawings()[4]))
            assert np.abs(np.asarray(form) / 255 - wanted).mean() < 0.06, "slanted and wavy as the photo is"
        answers.append({line["model"]: line["label"] for line in lines})
    assert answers[0] == answers[1]
    assert set(answers[0]) == {"one", "two"}


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"", 422, "the picture is not a readable picture (it is in no format that Pillow reads)"),
        (b"text", 422, "the picture is not a readable picture"),
        (jpeg(np.full((90, 80), 200, np.uint8)), 422, "the picture is blank: give one that shows a digit."),
        (jpeg(photo_of(drawings()[1], seed=1))[:700], 422, "the picture is not a readable picture"),
        (b"x" * (pages.MOST_PHOTO_BYTES + 1), 413, "a photo may have at most 32,000,000 bytes"),
    ],
)
def test_what_is_no_photo_gets_a_sentence(client: TestClient, content: bytes, status: int, sentence: str) -> None:
    response = client.post("/api/photo", content=content)
    assert response.status_code == status
    assert sentence in response.json()["problem"]
