"""`wandb verify`, by which W&B's own client tries a server: as a whole. It starts nine runs of an agent that asks every 5 s."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.serving import listening
from tests.service.test_artifacts_client import run_command


@pytest.mark.slow
def test_wandb_verify_passes(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    with listening(tmp_path / "service") as address:
        said = run_command(address, tmp_path, "verify")
    faults = [line for line in said.splitlines() if "\u274c" in line]
    assert len(faults) == 2, said
    assert "requests to base url" in faults[0], "that it is served over http is all that it finds"
    assert "requests made over signed URLs" in faults[1]
