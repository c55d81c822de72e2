"""The array functions that formulas need: Python scalars stay Python scalars, arrays stay in their own library.

Every function takes floats, arrays of any array-API library (NumPy, JAX, CuPy, torch, array-api-strict) or pint quantities.
Scalars take a path of their own first, because looking up an array's namespace costs more than the arithmetic.
"""

import math
import sys
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj

from ridgeline.quantities import Quantity

_SCALARS = (float, int, bool)


def is_scalar(value: Quantity) -> bool:
    """Say whether a quantity is one number, not an array.

    >>> is_scalar(2.0)
    True
    """
    return type(value) in _SCALARS or not (_is_numpy(value) or is_array_api_obj(value))


def _is_numpy(value: Any) -> bool:
    """Say whether a value is NumPy's own, whose functions take scalars beside it as they are."""
    return type(value).__module__ == "numpy"


def _numpy(first: Any, second: Any) -> Any:
    """Return NumPy where both values are its own or plain numbers, else None; it is loaded where one of its arrays is."""
    plain = (_is_numpy(first) and (_is_numpy(second) or type(second) in _SCALARS)) or (
        type(first) in _SCALARS and _is_numpy(second)
    )
    return sys.modules["numpy"] if plain else None


def _namespace(*values: Quantity) -> Any:
    return array_namespace(*[value for value in values if is_array_api_obj(value)])


def _match(value: Quantity, like: Any, xp: Any) -> Any:
    return value if is_array_api_obj(value) else xp.full_like(like, value)


def _pair(first: Quantity, second: Quantity) -> tuple[Any, Any, Any]:
    xp = _namespace(first, second)
    like = first if is_array_api_obj(first) else second
    return xp, _match(first, like, xp), _match(second, like, xp)


def is_zero(value: Quantity) -> bool:
    """Say whether a quantity is the number 0, which stands for "absent"; an array never is.

    >>> is_zero(0), is_zero(0.5)
    (True, False)
    """
    return type(value) in _SCALARS and value == 0


def maximum(first: Quantity, second: Quantity) -> Quantity:
    """Return the larger of two quantities, element by element.

    >>> maximum(1.0, 2.0)
    2.0
    """
    if is_scalar(first) and is_scalar(second):
        return first if first >= second else second
    if (numpy := _numpy(first, second)) is not None:
        return numpy.maximum(first, second)
    xp, first, second = _pair(first, second)
    return xp.maximum(first, second)


def minimum(first: Quantity, second: Quantity) -> Quantity:
    """Return the smaller of two quantities, element by element.

    >>> minimum(1.0, 2.0)
    1.0
    """
    if is_scalar(first) and is_scalar(second):
        return first if first <= second else second
    if (numpy := _numpy(first, second)) is not None:
        return numpy.minimum(first, second)
    xp, first, second = _pair(first, second)
    return xp.minimum(first, second)


def where(condition: Quantity, then: Quantity, otherwise: Quantity) -> Quantity:
    """Return `then` where the condition holds and `otherwise` elsewhere.

    >>> where(3.0 > 2.0, "yes", "no")
    'yes'
    """
    if is_scalar(condition) and not is_array_api_obj(condition):
        return then if condition else otherwise
    if _is_numpy(condition):
        if (numpy := _numpy(then, otherwise)) is not None:
            return numpy.where(condition, then, otherwise)
        if type(then) in _SCALARS and type(otherwise) in _SCALARS:
            return sys.modules["numpy"].where(condition, float(then), float(otherwise))
    xp = _namespace(condition, then, otherwise)
    like = next((one for one in (then, otherwise) if is_array_api_obj(one)), None)
    if like is None:
        like = xp.astype(condition, xp.float64)
    return xp.where(condition, _match(then, like, xp), _match(otherwise, like, xp))


def ceil_divide(first: Quantity, second: Quantity) -> Quantity:
    """Return how many pieces of `second` cover `first`.

    >>> ceil_divide(10, 4)
    3
    """
    return -(-first // second)


def ceil_log2(value: Quantity) -> Quantity:
    """Return the levels of a binary tree over so many leaves.

    >>> ceil_log2(1), ceil_log2(16), ceil_log2(17)
    (0, 4, 5)
    """
    if is_scalar(value):
        return math.ceil(math.log2(value))
    xp = _namespace(value)
    return xp.ceil(xp.log2(value))


def exponential(value: Quantity) -> Quantity:
    """Return e to the power of a quantity.

    >>> exponential(0.0)
    1.0
    """
    return math.exp(value) if is_scalar(value) else _namespace(value).exp(value)


def exponential_minus_one(value: Quantity) -> Quantity:
    """Return e to the power of a quantity less one, exact to rounding near zero.

    >>> exponential_minus_one(0.0)
    0.0
    """
    return math.expm1(value) if is_scalar(value) else _namespace(value).expm1(value)


def clip(value: Quantity, lower: Quantity, upper: Quantity) -> Quantity:
    """Return the value held between two limits.

    >>> clip(7.0, 0.0, 5.0)
    5.0
    """
    return minimum(maximum(value, lower), upper)


def total(values: list[Quantity]) -> Quantity:
    """Return the sum of a list of quantities that broadcast; the empty sum is 0.0.

    >>> total([1.0, 2.0])
    3.0
    """
    result: Quantity = 0.0
    for index, value in enumerate(values):
        result = value if index == 0 else result + value
    return result


def to_float(value: Quantity) -> Quantity:
    """Return a Python number for a zero-dimensional array, and anything else as it is."""
    return value if is_scalar(value) or value.ndim else float(value)
