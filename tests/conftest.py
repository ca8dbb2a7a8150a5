"""What all tests share."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("JOURNEYMAN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
"""Public data sets that are not part of the project."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets; what needs it is skipped where it isn't there."""
    if not DATA.is_dir():
        pytest.skip("no public data sets beside the project (JOURNEYMAN_DATA names their folder)")
    return DATA
