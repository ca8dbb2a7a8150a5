"""What the unit tests share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from journeyman.environments import environment
from journeyman.rewards import REWARDS
from tests.unit.fakes import World, make_world, oddness

# A loaded machine is no failure of a property.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A few problems and a tiny untrained model, made once."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session", autouse=True)
def _let_go_of_databases() -> Iterator[None]:
    """DuckDB complains at the interpreter's end about what hypothesis still holds."""
    yield
    environment.cache_clear()


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARDS, "odd", oddness)
