"""The data of a sweep's page: objectives, front, hypervolume, importance, agents; and what its buttons do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from paretune.service.store.accounts import add_user
from paretune.service.store.tables import Run, now
from paretune.service.web import importance, sweep_data
from paretune.service.web.importance import computed_beside, importance_of
from paretune.service.web.sweep_data import Kept, SweepData
from tests.service.browsing import Shown, sent
from tests.service.sweeps.test_sweeps import agent, beat, created, set_state

METRICS = [{"name": "precision", "goal": "maximize"}, {"name": "seconds", "goal": "minimize"}]
NESTED = {"x": {"min": 0.0, "max": 1.0}, "net": {"parameters": {"width": {"values": [1, 2]}, "depth": {"value": 3}}}}


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(tmp_path)


def ended(shown: Shown, own: str, sweep: str, rows: list[dict[str, float]], exit_code: int = 0) -> str:
    """Let an agent's next run log rows and end; return its name."""
    (command,) = beat(shown, own)
    name = str(command["run_id"])
    shown.run(name, sweep=sweep, config=json.dumps(command["args"]))
    lines = [json.dumps({"_step": step, **row}) for step, row in enumerate(rows)]
    files = {"wandb-history.jsonl": {"offset": 0, "content": lines}, "wandb-summary.json": {"offset": 0, "content": lines[-1:]}}
    shown.stream(name, files=files, complete=True, exitcode=exit_code)
    return name


def data(shown: Shown, sweep: str, query: str = "") -> dict[str, Any]:
    response = shown.browser.get(f"/someone/tried/sweeps/{sweep}/data.json{query}")
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def swept(shown: Shown, points: list[tuple[float, float]], **changes: Any) -> tuple[str, list[str]]:
    values = {"metric": None, "metrics": METRICS, "method": "random", "run_cap": 20, **changes}
    _, sweep = created(shown, **values)
    own = agent(shown, sweep)
    return sweep, [ended(shown, own, sweep, [{"precision": a, "seconds": b}]) for a, b in points]


def test_a_run_that_breaks_a_constraint_says_so_itself_and_is_on_no_front(shown: Shown) -> None:
    constrained = {"controller": {"type": "cloud", "search": {"constraints": ["seconds <= 5"]}}}
    sweep, names = swept(shown, [(0.5, 3.0), (0.9, 9.0), (0.7, 4.0)], **constrained)
    beat(shown, agent(shown, sweep))
    query = 'query($n: String!) { project(name: "tried") { run(name: $n) { summaryMetrics tags } } }'
    said = [json.loads(shown.ask(query, n=name)["project"]["run"]["summaryMetrics"]) for name in names]
    goals = {"precision": "maximize", "seconds": "minimize"}
    kept = {"schema": 1, "goals": goals, "objectives": list(goals), "feasible": True}
    assert [one["paretune"] for one in said] == [kept, {**kept, "feasible": False, "broken": ["seconds <= 5"]}, kept]
    assert [one["precision"] for one in said] == [0.5, 0.9, 0.7], "what the run said stays"
    found = data(shown, sweep)
    assert [row["state"] for row in found["rows"]] == ["finished", "breaks a constraint", "finished"]
    assert found["analysis"]["front"] == [names[0], names[2]]
    assert set(found["metrics"]) == {"precision", "seconds"}


def test_the_front_and_the_hypervolume_are_those_of_the_finished_runs(shown: Shown) -> None:
    points = [(0.5, 3.0), (0.9, 9.0), (0.7, 3.0), (0.6, 2.0), (0.8, 9.5)]
    sweep, names = swept(shown, points)
    beat(shown, agent(shown, sweep))
    found = data(shown, sweep)
    assert [row["run"] for row in found["rows"]] == names
    assert [tuple(row["values"]) for row in found["rows"]] == points
    assert set(found["analysis"]["front"]) == {names[1], names[2], names[3]}
    corner = (0.5, 9.5)
    expected = [0.0, 0.4 * 0.5, 0.4 * 0.5 + 0.2 * 6.0, 0.4 * 0.5 + 0.2 * 6.0 + 0.1 * 1.0]
    expected = [*expected, expected[-1]]
    assert found["analysis"]["volumes"] == pytest.approx(expected), corner
    assert (found["state"], found["ended"], found["chosen"]) == ("running", 5, None)
    assert found["parameters"] == ["x", "kind"]
    assert set(found["metrics"]) == {"precision", "seconds"}


def test_equal_runs_rank_in_the_order_of_the_analysis(shown: Shown) -> None:
    _, sweep = created(shown, metric={"name": "f1", "goal": "maximize"}, method="random", run_cap=20)
    own = agent(shown, sweep)
    scores = [(0.8, 0.1, 1), (0.9, 0.3, 5), (0.9, 0.2, 9), (0.9, 0.2, 5), (0.9, 0.2, 5)]
    names = [ended(shown, own, sweep, [{"f1": a, "test_loss": b, "n_parameters": c}]) for a, b, c in scores]
    ended(shown, own, sweep, [{"f1": 1.0}], exit_code=1)
    found = data(shown, sweep)
    ranks = {row["run"]: row["rank"] for row in found["rows"]}
    assert [ranks[name] for name in names] == [4, 3, 2, 0, 1]
    assert [row["rank"] for row in found["rows"] if row["state"] != "finished"] == [None]


def test_runs_of_one_configuration_that_came_out_alike_are_on_the_front_once(shown: Shown) -> None:
    parameters = {"x": {"values": [0.5]}, "kind": {"value": "a"}}
    sweep, names = swept(shown, [(0.9, 3.0), (0.9, 3.0), (0.5, 1.0)], parameters=parameters)
    found = data(shown, sweep)["analysis"]
    assert (found["front"], found["alike"]) == ([names[0], names[2]], {names[0]: 2})


def test_an_inactive_parameter_has_no_value_on_the_page() -> None:
    config = {"x": {"value": 0.5}, "kind": {"value": "a"}, "classifier": {"value": "ann"}}
    config["provenance"] = {"value": {"fingerprints": {}, "inactive": ["x"]}}
    run = Run(name="r", config=json.dumps(config), summary="{}", state="finished", created_at=now(), heartbeat_at=now())
    assert sweep_data.shown(run, ["x", "kind"], set()).config == {"x": None, "kind": "a"}


def test_failed_and_stopped_runs_are_on_no_front(shown: Shown) -> None:
    sweep, names = swept(shown, [(0.5, 3.0)])
    ended(shown, agent(shown, sweep), sweep, [{"precision": 1.0, "seconds": 0.1}], exit_code=1)
    found = data(shown, sweep)
    assert found["analysis"]["front"] == names
    assert [row["state"] for row in found["rows"]] == ["finished", "failed"]


def test_a_finished_run_counts_by_its_summary_before_and_after_the_search_has_learnt_of_it(shown: Shown) -> None:
    _, sweep = created(shown, metric={"name": "loss", "goal": "minimize"}, method="random")
    own = agent(shown, sweep)
    ended(shown, own, sweep, [{"loss": 3.0}, {"loss": 1.0}, {"loss": 2.0}])
    before = data(shown, sweep)
    assert before["rows"][0]["values"] == [2.0], "the search has not been told yet: the summary"
    beat(shown, own)
    assert data(shown, sweep, f"?seen={before['signature']}")["rows"][0]["values"] == [2.0]


def test_ended_runs_are_sent_once(shown: Shown) -> None:
    sweep, _ = swept(shown, [(0.5, 3.0), (0.6, 3.0)])
    first = data(shown, sweep)
    again = data(shown, sweep, f"?seen={first['signature']}")
    assert "rows" not in again
    assert again["signature"] == first["signature"]
    ended(shown, agent(shown, sweep), sweep, [{"precision": 0.7, "seconds": 1.0}])
    third = data(shown, sweep, f"?seen={first['signature']}")
    assert len(third["rows"]) == 3


def test_other_metrics_can_be_weighed(shown: Shown) -> None:
    sweep, names = swept(shown, [(0.5, 3.0), (0.9, 9.0)])
    found = data(shown, sweep, "?metric=seconds")
    assert found["objectives"] == [{"name": "seconds", "goal": "minimize"}]
    assert found["analysis"]["front"] == names[:1]
    found = data(shown, sweep, "?metric=seconds&goal=maximize&metric=&goal=&metric=precision&goal=")
    assert found["objectives"] == [{"name": "seconds", "goal": "maximize"}, {"name": "precision", "goal": "maximize"}]
    assert found["analysis"]["front"] == names[1:]
    assert shown.browser.get(f"/someone/tried/sweeps/{sweep}?metric=a&metric=b&metric=c&metric=d").status_code == 400


def test_nested_parameters_are_shown_by_their_paths_and_constants_are_not(shown: Shown) -> None:
    sweep, _ = swept(shown, [(0.5, 3.0)], parameters=NESTED)
    found = data(shown, sweep)
    assert found["parameters"] == ["x", "net.width"]
    assert found["rows"][0]["config"]["net.width"] in (1, 2)


def test_a_deleted_run_is_gone_from_the_page(shown: Shown) -> None:
    sweep, names = swept(shown, [(0.5, 3.0), (0.6, 3.0)])
    assert len(data(shown, sweep)["rows"]) == 2
    sent(shown.browser, f"/someone/tried/runs/{names[1]}", action="delete")
    assert [row["run"] for row in data(shown, sweep)["rows"]] == names[:1]


def test_a_sweep_asks_the_same_few_questions_however_many_runs_it_has(shown: Shown) -> None:
    asked: list[str] = []
    sa.event.listen(shown.database.engine, "before_cursor_execute", lambda *values: asked.append(values[2]))
    sweep, _ = swept(shown, [(0.5, 3.0)] * 2)
    counts = []
    for _ in range(2):
        asked.clear()
        seen = data(shown, sweep)["signature"]
        first = len(asked)
        asked.clear()
        data(shown, sweep, f"?seen={seen}")
        counts.append((first, len(asked)))
        own = agent(shown, sweep)
        for _ in range(8):
            ended(shown, own, sweep, [{"precision": 0.1, "seconds": 1.0}])
    assert counts[0] == counts[1]
    assert max(counts[0]) <= 16


def test_agents_are_listed_with_their_runs(shown: Shown) -> None:
    sweep, _ = swept(shown, [(0.5, 3.0), (0.6, 3.0)])
    agent(shown, sweep)
    found = data(shown, sweep)["agents"]
    assert sorted(one["runs"] for one in found) == [0, 2]
    assert all(one["alive"] for one in found)


def test_the_importance_comes_when_it_is_computed(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def of(rows: Any, *_: Any) -> dict[str, Any]:
        asked.append([row["run"] for row in rows])  # also for what other tests' pages still have waiting
        return {"rows": [["x", 1.0, 0.9, 1.0]]}

    monkeypatch.setattr(sweep_data, "computed_beside", of)
    sweep, names = swept(shown, [(0.5, 3.0)])
    assert data(shown, sweep)["importance"] is not None
    found = None
    for _ in range(100):
        found = data(shown, sweep)["importance"]
        if not found["busy"]:
            break
    assert found == {"rows": [["x", 1.0, 0.9, 1.0]], "count": 1, "weighed": 1, "busy": False}
    data(shown, sweep)
    assert asked.count(names) == 1, "it is computed once for the same runs"


def test_the_importance_of_what_decides_is_the_largest() -> None:
    chance = np.random.default_rng(1)
    rows = []
    for number in range(60):
        x, y, kind = float(chance.random()), float(chance.random()), ["a", "b"][number % 2]
        rows.append(
            {
                "run": f"r{number}",
                "values": [x + 0.01 * y],
                "config": {"x": x, "y": y, "kind": kind, "only": None if y < 0.5 else y},
            }
        )
    found = importance_of(rows, ["x", "y", "kind", "only"], "score", "maximize")["rows"]
    assert found[0][0] == "x"
    assert sum(share for _, share, _, _ in found) == pytest.approx(1)
    assert "at least 10 finished runs" in importance_of(rows[:5], ["x"], "score", "maximize")["why"]


@pytest.mark.slow
def test_the_importance_is_computed_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"run": f"r{n}", "values": [float(n)], "config": {"x": n, "y": n % 3}} for n in range(30)]
    assert computed_beside(rows, ["x", "y"], "score", "maximize") == importance_of(rows, ["x", "y"], "score", "maximize")
    monkeypatch.setattr(importance, "MOST_SECONDS", 0.01)
    assert computed_beside(rows, ["x", "y"], "score", "maximize") == {"why": "it could not be computed; the server's log says why."}


def tags_of(shown: Shown) -> dict[str, list[str]]:
    with shown.database.session() as session:
        return {run.name: json.loads(run.tags) for run in session.scalars(sa.select(Run))}


def test_one_run_of_a_sweep_is_chosen(shown: Shown) -> None:
    sweep, (first, second) = swept(shown, [(0.5, 3.0), (0.6, 3.0)])
    other, (third,) = swept(shown, [(0.5, 3.0)])
    shown.run(first, tags=["kept"])
    here = f"/someone/tried/sweeps/{sweep}/chosen"
    assert sent(shown.browser, here, run=first).status_code == 303
    sent(shown.browser, f"/someone/tried/sweeps/{other}/chosen", run=third)
    assert tags_of(shown) == {first: ["kept", "chosen"], second: [], third: ["chosen"]}
    response = shown.browser.post(here, content=f"run={second}", headers={"accept": "application/json"})
    assert response.json() == {"chosen": second}
    assert tags_of(shown) == {first: ["kept"], second: ["chosen"], third: ["chosen"]}
    assert data(shown, sweep)["chosen"] == second
    assert sent(shown.browser, here, run=third).status_code == 404, "it is another sweep's"
    assert tags_of(shown)[second] == ["chosen"], "and the choice stays"
    sent(shown.browser, here, run="")
    assert tags_of(shown)[second] == []


def test_a_sweep_is_paused_resumed_stopped_and_over(shown: Shown) -> None:
    sweep, _ = swept(shown, [(0.5, 3.0)])
    here = f"/someone/tried/sweeps/{sweep}"
    for action, state in (("pause", "paused"), ("resume", "running"), ("cancel", "canceled")):
        assert sent(shown.browser, here, action=action).status_code == 303
        assert data(shown, sweep)["state"] == state
    assert sent(shown.browser, here, action="resume").status_code == 303
    assert data(shown, sweep)["state"] == "running", "as at W&B, it goes on after its end"
    assert sent(shown.browser, here, action="explode").status_code == 400


def test_others_neither_see_nor_steer_a_sweep(shown: Shown) -> None:
    sweep, (run,) = swept(shown, [(0.5, 3.0)])
    add_user(shown.database, "other", key="local-" + "o" * 40)
    other = shown.another("local-" + "o" * 40)
    here = f"/someone/tried/sweeps/{sweep}"
    assert other.get(here).status_code == other.get(f"{here}/data.json").status_code == 404
    assert sent(other, here, action="cancel").status_code == 404
    assert sent(other, f"{here}/chosen", run=run).status_code == 404
    assert data(shown, sweep)["state"] == "running"
    assert tags_of(shown)[run] == []


def test_a_sweep_without_runs_has_a_page(shown: Shown) -> None:
    identifier, sweep = created(shown)
    assert "wandb agent someone/tried/" in shown.page(f"/someone/tried/sweeps/{sweep}")
    found = data(shown, sweep)
    assert (found["rows"], found["analysis"], found["live"]) == ([], {"front": [], "alike": {}, "volumes": []}, [])
    assert sweep in shown.page("/someone/tried/sweeps")
    set_state(shown, identifier, "FINISHED")
    assert data(shown, sweep)["state"] == "finished"


def test_no_process_is_started_for_a_metric_that_no_run_has(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def computed(rows: Any, parameters: Any, metric: str, goal: str) -> dict[str, Any]:
        asked.append(metric)
        return {}

    monkeypatch.setattr(sweep_data, "computed_beside", computed)
    sweep, _ = swept(shown, [(0.5, 3.0)])
    for number in range(5):
        data(shown, sweep, f"?metric=absent{number}")
    assert asked == []


def test_the_importances_that_are_kept_are_few(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_data, "MOST_IMPORTANCES", 2)
    of_all = SweepData(shown.searches)
    kept = Kept()
    rows = [{"run": "r", "state": "finished", "values": [1.0]}]
    monkeypatch.setattr(sweep_data, "computed_beside", lambda *_: {"why": "none"})
    for number in range(5):
        of_all._ask_importance(kept, rows, ["x"], f"m{number}", "minimize")
        of_all._pool.submit(lambda: None).result()
    assert list(kept.importance) == ["m3:minimize", "m4:minimize"]


def test_an_edit_of_a_run_that_has_ended_is_shown(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, names = swept(shown, [(0.5, 3.0), (0.6, 3.0)])
    before = data(shown, sweep)
    sent(shown.browser, f"/someone/tried/runs/{names[0]}", action="edit", name="renamed")
    query = f"?seen={before['signature']}"
    assert "rows" not in data(shown, sweep, query), "all runs are not read at every poll"
    monkeypatch.setattr(sweep_data, "EDITS", 0.0)
    after = data(shown, sweep, query)
    assert [row["name"] for row in after["rows"]] == ["renamed", before["rows"][1]["name"]]
    assert "rows" not in data(shown, sweep, f"?seen={after['signature']}")
