"""The clients that the service is tested with: the one of requirements.txt, and an older one that OLDER_CLIENT names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.service import serving
from tests.service.serving import listening


@pytest.fixture(scope="module", params=["installed", "older"])
def each_client(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a module with every client that is here."""
    python = sys.executable if request.param == "installed" else os.environ.get("OLDER_CLIENT")
    if not python:
        pytest.skip("OLDER_CLIENT names no python with tests/service/older-client.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "PYTHON", python)
        yield


@pytest.fixture(scope="module")
def address(each_client: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that a module's tests share, with each client anew."""
    with listening(tmp_path_factory.mktemp("service")) as address:
        yield address
