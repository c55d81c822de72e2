"""Fixtures of the whole suite: the folder of facts, and one array library after another."""

import importlib
import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def facts() -> Path:
    """The folder of published figures and measurements to compare with; it is not part of the repository."""
    named = os.environ.get("RIDGELINE_FACTS")
    if not named:
        pytest.skip("the published figures are elsewhere: set RIDGELINE_FACTS to their folder")
    if not Path(named).is_dir():
        pytest.skip(f"RIDGELINE_FACTS names {named}, which is no folder")
    return Path(named)


def _python() -> Any:
    return SimpleNamespace(__name__="python", asarray=float)


def _jax() -> Any:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)  # counts need float64
    return importlib.import_module("jax.numpy")


_LIBRARIES = {
    "python": _python,
    "numpy": lambda: importlib.import_module("numpy"),
    "array_api_strict": lambda: importlib.import_module("array_api_strict"),
    "jax": _jax,
}


@pytest.fixture(params=_LIBRARIES)
def xp(request: pytest.FixtureRequest) -> Any:
    """An array library; for plain floats a stand-in whose `asarray` is `float` and whose `__name__` is "python"."""
    try:
        return _LIBRARIES[request.param]()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed: `pip install 'ridgeline[test]'` brings it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the heavy tests, with a sentence, where what they compare with is not installed."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        skip = pytest.mark.skip(reason=f"{' and '.join(missing)} not installed: `bin/test --all` installs and runs this")
        for item in items:
            if "heavy" in item.keywords:
                item.add_marker(skip)
