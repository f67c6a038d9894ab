"""What the pages draw of a spec: its filters and orders as W&B's package writes them, its panels, and nothing of what is none."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from paretune.service.store.accounts import account_of
from paretune.service.store.tables import View
from paretune.service.web import saved_views
from paretune.service.web.saved_views import BARS, LINES, PARALLEL, SCATTER, Section, sections_of
from tests.service.browsing import Shown
from tests.service.serving import KEY, Asked
from tests.service.viewing import expr, grid, heading, panel, report, run_set, saved, workspace


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    """A service with four runs: lr 0 to 0.3, kind a and b in turn, f1 0, 1, NaN and none."""
    asked = Asked(tmp_path)
    for place, f1 in enumerate([{"f1": 0.0}, {"f1": 1.0}, {"f1": float("nan")}, {}]):
        config = {"lr": {"value": place / 10}, "kind": {"value": "ab"[place % 2]}, "deep": {"value": {"x": place, "list": [place]}}}
        summary = {**f1, "val/loss": place, "a b": 2.0 * place, "inner": {"y": place}}
        more = {"sweep": "s1"} if place < 2 else {}
        asked.run(f"r{place}", config=json.dumps(config), summaryMetrics=json.dumps(summary), state="finished", **more)
    return asked


def sections(asked: Asked, spec: dict[str, Any], kind: str = "project-view") -> list[Section]:
    saved(asked, spec, type=kind)
    account = account_of(asked.database, KEY)
    assert account is not None
    with asked.database.session() as session:
        return sections_of(session, account, session.scalars(sa.select(View)).one())


def names(asked: Asked, runs: dict[str, Any]) -> list[str]:
    (section,) = sections(asked, workspace([], runs))
    assert section.run_set is not None
    assert section.run_set.problem == ""
    assert section.run_set.count == len(section.run_set.rows)
    return [row.run.name for row in section.run_set.rows]


FILTERS = {
    "": "0123",
    "Config('lr') >= 0.1": "123",
    "Config('lr') <= 0.1": "01",
    "Config('kind') == 'a'": "02",
    "Config('kind') != 'a'": "13",
    "Config('deep.x') == 2": "2",
    "Summary('val/loss') >= 2": "23",
    "Summary('a b') == 2": "1",
    "Summary('inner.y') == 3": "3",
    "Metric('Sweep') == 's1'": "01",
    "Metric('State') in ['Finished', 'failed']": "0123",
    "Metric('Name') not in ['r0', 'r3']": "12",
    "Metric('CreatedTimestamp') within_last 5 days": "0123",
    "Config('kind') == 'a' and Config('lr') >= 0.1": "2",
    "Config('lr') == 0.3 or Config('kind') == 'a' and Config('lr') >= 0.1": "23",
    "(Config('lr') == 0.3 or Config('kind') == 'a') and Config('lr') >= 0.1": "23",
    "Config('lr') >= 0.1 and (Config('lr') == 0.3 or Config('kind') == 'a')": "23",
}


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_filter_lets_through_what_it_says_in_both_of_the_packages_forms(asked: Asked, text: str, is_new: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that < is <= to it
        tree = expr.expr_to_filters(text)
    form = expr.filters_tree_to_v2(tree) if is_new else tree.model_dump(by_alias=True)
    assert sorted(names(asked, run_set(form, "run:createdAt"))) == [f"r{digit}" for digit in FILTERS[text]]


def test_what_is_switched_off_in_a_filter_has_no_effect(asked: Asked) -> None:
    item = {"key": {"section": "config", "name": "lr"}, "op": ">=", "value": 0.2, "disabled": True}
    assert len(names(asked, run_set({"filterFormat": "filterV2", "filters": [item]}))) == 4


@pytest.mark.parametrize(
    ("key", "ascending", "order"),
    [
        ("config:lr.value", False, "3210"),
        ("config:lr", True, "0123"),
        ("config:deep.value.x", False, "3210"),
        ("summary:a b", True, "0123"),
        ("run:displayName", False, "3210"),
        ("run:name", True, "0123"),
    ],
)
def test_runs_are_ordered_as_it_says(asked: Asked, key: str, ascending: bool, order: str) -> None:
    assert names(asked, run_set(order=key, ascending=ascending)) == [f"r{digit}" for digit in order]


def test_runs_without_the_value_come_last(asked: Asked) -> None:
    assert names(asked, run_set())[:2] == ["r1", "r0"]


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        (run_set(order="run:loss"), "runs cannot be sorted by 'loss'"),
        (
            run_set({"filterFormat": "filterV2", "filters": [{"key": {"section": "run", "name": "loss"}, "op": "=", "value": 1}]}),
            "runs have no field 'loss'",
        ),
        (
            run_set({"filterFormat": "filterV2", "filters": [{"key": {"section": "run", "name": "state"}, "op": "LIKE"}]}),
            "an operator that is not served here: 'LIKE'.",
        ),
        (run_set(project={"entityName": "nobody", "name": "secret"}), "there is no project nobody/secret here that you may see."),
    ],
)
def test_what_cannot_be_said_of_the_runs_is_said_in_their_place(asked: Asked, runs: dict[str, Any], sentence: str) -> None:
    (section,) = sections(asked, workspace([], runs))
    assert section.run_set is not None
    assert sentence in section.run_set.problem
    assert section.run_set.rows == []


def test_what_has_no_effect_here_is_named(asked: Asked) -> None:
    more = {"grouping": [{"section": "config", "name": "lr"}], "search": {"query": "x"}, "selections": {"tree": ["r1"]}}
    (section,) = sections(asked, workspace([], run_set(**more)))
    assert section.run_set is not None
    assert section.run_set.ignored == ["grouping", "the search for names", "runs that are hidden one by one"]


def test_the_columns_of_the_table_are_those_that_are_shown_in_their_order(asked: Asked) -> None:
    feed = {
        "columnOrder": ["summary:val/loss", "config:deep.value.x", "run:displayName", "run:state"],
        "columnPinned": {"run:displayName": True, "config:deep.value.x": True, "summary:val/loss": True},
        "columnVisible": {"run:state": False, "run:createdAt": True, "run:unheard": True, "summary:val/loss": True},
    }
    (section,) = sections(asked, workspace([], run_set(runFeed=feed)))
    assert section.run_set is not None
    assert section.run_set.columns == ("summary.val/loss", "config.deep.x", "created")


def test_panels_hold_what_the_runs_have_and_others_are_named(asked: Asked) -> None:
    panels = [
        panel(LINES, metrics=["val/loss", "a b"], xAxis="epoch", yLogScale=True, chartTitle="Lines"),
        panel(LINES, metrics=["f1"], xAxis="another"),
        panel(SCATTER, xAxis="config:lr.value", yAxis="summary:f1", xAxisLogScale=True),
        panel(BARS, metrics=["summary_metrics.a b", "val/loss", "config.lr.value"]),
        panel(
            PARALLEL,
            columns=[{"accessor": "config:lr.value", "log": True}, {"accessor": "c"}, {"accessor": "config:deep.value.list"}],
        ),
        panel(PARALLEL, columns=[{"accessor": "summary:f1"}]),
        panel(SCATTER, xAxis="summary:f1"),
        panel("Parameter Importance", targetKey="f1"),
        {},
    ]
    (section,) = sections(asked, workspace(panels, run_set(order="run:name", ascending=True)))
    lines, other, scatter, bars, parallel = section.panels
    assert (lines["title"], lines["metrics"], lines["axis"], lines["log"]) == ("Lines", ["val/loss", "a b"], "epoch", True)
    assert (other["title"], other["axis"], other["log"]) == ("f1", "_step", False)
    assert [(point["name"], point["values"]) for point in scatter["points"]] == [
        ("r0", [0.0, 0.0]),
        ("r1", [0.1, 1.0]),
        ("r2", [0.2, None]),
        ("r3", [0.3, None]),
    ]
    assert (scatter["title"], scatter["names"], scatter["logs"]) == ("f1 over lr", ["lr", "f1"], [True, False])
    assert (bars["names"], bars["points"][3]["values"]) == (["a b", "val/loss", "lr"], [6.0, 3, 0.3])
    assert (parallel["parameters"], parallel["logarithmic"]) == (["lr", "deep.list"], ["lr"])
    assert (parallel["rows"][2]["config"], parallel["rows"][2]["values"]) == ({"lr": 0.2, "deep.list": "[2]"}, [None])
    assert section.not_drawn == [PARALLEL, SCATTER, "Parameter Importance", "a panel"]


def test_a_report_is_its_headings_texts_and_grids_in_their_order(asked: Asked) -> None:
    line = panel(LINES, metrics=["f1"])
    blocks = [
        {"type": "paragraph", "children": [{"text": ""}]},
        heading("First"),
        grid([line]),
        heading("Words"),
        {"type": "paragraph", "children": [{"text": "Hello "}, {"type": "link", "url": "x", "children": [{"text": "you"}]}]},
        grid([line], run_set(project={"entityName": "someone", "name": "tried"})),
        {"type": "gallery", "children": [{"text": ""}]},
    ]
    found = sections(asked, report(*blocks), "runs")
    told = [(one.name, one.text, len(one.panels), one.not_drawn) for one in found]
    assert told == [
        ("First", "", 1, []),
        ("Words", "", 0, []),
        ("", "Hello you", 0, []),
        ("Words", "", 1, []),
        ("", "", 0, ["gallery"]),
    ]


JUNK: list[Any] = [None, 1, "text", [], {}, [None], [[]], {"filters": 1}, {"key": 5}, [{"a": {}}], "\ud800", 1e999, True]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("kind", ["project-view", "runs"])
def test_whatever_stands_in_a_spec_gives_a_page(tmp_path: Path, junk: Any, kind: str) -> None:
    shown = Shown(tmp_path)
    shown.run("r1", config='{"lr": {"value": 1}}', summaryMetrics='{"f1": 1}', state="finished")
    holes = [
        {"section": junk, "blocks": junk},
        {"section": {"panelBankConfig": junk, "runSets": junk, "openRunSet": junk}},
        {"section": {"panelBankConfig": {"sections": junk}}},
        workspace([{"viewType": kind, "config": junk} for kind in (LINES, SCATTER, BARS, PARALLEL, junk)]),
        workspace([panel(LINES, metrics=junk, xAxis=junk), panel(SCATTER, xAxis=junk, yAxis=junk), panel(PARALLEL, columns=junk)]),
        workspace([panel(BARS, metrics=[junk], chartTitle=junk), panel(PARALLEL, columns=[{"accessor": junk}] * 2)]),
        workspace([], run_set(junk)),
        workspace(
            [], run_set({"filters": [junk, {"key": junk, "op": junk}, {"key": {"name": "state"}, "op": "=", "value": junk}]})
        ),
        workspace([], {"sort": junk, "runFeed": junk, "project": junk, "search": junk, "selections": junk}),
        workspace(
            [], {"sort": {"keys": [junk]}, "runFeed": {"columnOrder": junk, "columnPinned": junk}, "project": {"name": junk}}
        ),
        report(heading("a"), {"type": junk, "children": junk}, {"type": "panel-grid", "metadata": junk}),
    ]
    for spec in holes:
        view = saved(shown, spec, type=kind)
        html = shown.page("/someone/tried?nw=one" if kind == "project-view" else f"/someone/tried/reports/One--{view['id']}")
        assert "<h1>One</h1>" in html


def test_a_view_draws_so_many_panels(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_views, "MOST_PANELS", 3)
    line = panel(LINES, metrics=["f1"])
    found = sections(asked, report(grid([line] * 2), grid([line] * 2), grid([line])), "runs")
    assert [len(section.panels) for section in found] == [2, 1, 0]
    monkeypatch.setattr(saved_views, "MOST_BLOCKS", 2)
    found = sections(asked, report(*[heading("a")] * 5), "runs")
    assert [section.not_drawn for section in found] == [[], [], ["the 3 blocks after this one"]]
