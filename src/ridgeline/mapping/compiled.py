"""Compiled loops over the very formulas that scalars and arrays use: Numba, imported only when a search starts.

The functions of `arrays` get a scalar form for compiled code; every function of the given modules may then be called from a
compiled one. Compiled code is cached on disk under a number made from the text of all these modules, so that a changed formula is
never answered from the cache.
"""

import importlib.util
import inspect
import zlib
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from ridgeline import arrays


def is_available() -> bool:
    """Say whether Numba is installed; without it the same loops run as plain Python, some hundred times slower."""
    return importlib.util.find_spec("numba") is not None


def stamp(modules: Sequence[ModuleType]) -> int:
    """Return a number that changes with the text of any of the modules."""
    return zlib.crc32("".join(inspect.getsource(module) for module in (arrays, *modules)).encode())


def compile_loop(make: Callable[[int], Callable[..., Any]], modules: Sequence[ModuleType]) -> Callable[..., Any]:
    """Return the function that `make(stamp)` gives, compiled together with every function of the modules that it calls.

    `make` must use the number that it gets inside the function, so that it becomes part of the cache's key.
    """
    numba: Any = importlib.import_module("numba")
    _overload_arrays()
    for module in modules:
        for _, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                _register(function)
    function = make(stamp(modules))
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # no folder to keep compiled code in: compile anew in each process
        return numba.njit(error_model="numpy")(function)


@cache
def _register(function: Callable[..., Any]) -> None:
    extending: Any = importlib.import_module("numba.extending")
    extending.register_jitable(forceinline=True)(function)


@lru_cache(maxsize=1)
def _overload_arrays() -> None:
    extending: Any = importlib.import_module("numba.extending")
    forms = {
        arrays.maximum: lambda *_: lambda first, second: first if first >= second else second,
        arrays.minimum: lambda *_: lambda first, second: first if first <= second else second,
        arrays.where: lambda *_: lambda condition, then, otherwise: then if condition else otherwise,
        arrays.ceil_divide: lambda *_: lambda first, second: -(-first // second),
    }
    for function, form in forms.items():
        extending.overload(function, strict=False)(form)
