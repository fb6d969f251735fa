"""What every test and doctest has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _pytest.doctest import DoctestItem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def doctest_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs every doctest in a folder of its own."""
    if isinstance(request.node, DoctestItem):
        monkeypatch.chdir(tmp_path)
