"""`early_terminate` with the unmodified client: the worse run ends soon, by itself, and loses no row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.service.serving import client, listening
from tests.service.sweeps.test_sweeps import command

ROWS = 120
PROGRAM = f"""
import argparse, pathlib, time, wandb
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
x = parser.parse_args().x
run = wandb.init(settings=wandb.Settings(x_file_stream_transmit_interval=1))
for step in range({ROWS} if x > 0.5 else 8):
    run.log({{"loss": x}})
    with pathlib.Path(f"logged-{{x}}").open("a") as file:
        file.write("row\\n")
    time.sleep(0.25)
run.finish()
"""
DEFINITION = {
    "program": "train.py",
    "method": "random",
    "metric": {"name": "loss", "goal": "minimize"},
    "early_terminate": {"type": "hyperband", "min_iter": 4, "eta": 3},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}


@pytest.mark.slow
def test_the_worse_run_is_stopped_with_all_its_rows(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "service").mkdir()
    with listening(tmp_path / "service") as address:
        made = f"""
            import json, wandb
            name = wandb.sweep({json.dumps(DEFINITION)}, project="early")
            sweep = wandb.Api().sweep(f"someone/early/{{name}}")
            print(json.dumps([name, *(sweep.enqueue_run({{"x": {{"value": x}}}}) for x in (0.25, 0.75))]))
            """
        name, better, worse = client(address, tmp_path, made)
        ran = command(address, tmp_path, "agent", "--count", "2", f"someone/early/{name}")
        assert ran.returncode == 0, ran.stderr
        read = f"""
            import json, wandb
            runs = [wandb.Api().run(f"someone/early/{{name}}") for name in ("{better}", "{worse}")]
            print(json.dumps([[run.state, [row["_step"] for row in run.scan_history()]] for run in runs]))
            """
        found = client(address, tmp_path, read)
    logged = [len((tmp_path / f"logged-{x}").read_text().splitlines()) for x in (0.25, 0.75)]
    assert found == [["finished", list(range(8))], ["killed", list(range(logged[1]))]]
    assert 4 <= logged[1] < ROWS, "soon after its fourth row"
