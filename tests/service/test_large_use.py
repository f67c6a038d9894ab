"""Large use that is no attack passes every limit, with the real client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.serving import client

FILES = 500
PROGRAM = """
    import json, os, wandb
    config = {f"key{number}": "x" * 100 for number in range(40_000)}  # 5 MB as the client sends it
    with wandb.init(project="large", config=config) as run:
        for step in range(2):
            run.log({f"metric{number}": step + number / 7 for number in range(10_000)})
    with wandb.init(project="lists") as lists:
        for step in range(4):
            lists.log({"loss": step, "mask": [step] * 900_000})  # more values than a request may hold outside of its lines
    os.makedirs("files")
    for number in range(FILES):
        with open(f"files/{number}", "w") as file:
            file.write(str(number))
    with wandb.init(project="large") as other:
        artifact = wandb.Artifact("many", type="data")
        artifact.add_dir("files")
        other.log_artifact(artifact)
    values = [number / 1000 for number in range(1_000)]
    sweep = wandb.sweep({
        "method": "random", "program": "train.py", "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": {"values": values}},
    }, project="large")
    api = wandb.Api(timeout=60)
    found = api.run(f"someone/large/{run.id}")
    (row, _) = found.scan_history(keys=["metric7", "metric9999"])
    history = found.history(samples=2, pandas=False)
    listed = api.run(f"someone/lists/{lists.id}")
    artifact = api.artifact("someone/large/many:v0")
    with open(artifact.get_entry("7").download(root="downloaded")) as file:
        downloaded = file.read()
    print(json.dumps({
        "config": len(found.config), "summary": len([key for key in found.summary.keys() if key.startswith("metric")]),
        "lists": [listed.state, [row["loss"] for row in listed.scan_history(keys=["loss"])]],
        "row": row["metric7"], "history": [len(row) > 10_000 for row in history],
        "files": artifact.file_count, "downloaded": downloaded,
        "values": len(api.sweep(f"someone/large/{sweep}").config["parameters"]["x"]["values"]),
        "listed": len(api.runs("someone/large", per_page=1000)),
    }))
"""


@pytest.mark.slow
def test_ten_thousand_metrics_many_files_a_large_config_and_a_thousand_values(address: str, tmp_path: Path) -> None:
    found = client(address, tmp_path, PROGRAM.replace("FILES", str(FILES)))
    assert found == {
        "config": 40_000,
        "summary": 10_000,
        "lists": ["finished", [0, 1, 2, 3]],
        "row": 1.0,
        "history": [True, True],
        "files": FILES,
        "downloaded": "7",
        "values": 1_000,
        "listed": 2,
    }
