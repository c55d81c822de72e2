"""Codes of fewer bits than a byte, side by side in bytes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ridgeline.errors import InputError
from ridgeline.numerics.codes import Codes, as_format, code_type
from ridgeline.specs.number_format import NumberFormat

_CHUNK = 1 << 16  # values at a time, a multiple of 8: each costs a byte for every bit


def pack(codes: ArrayLike, form: NumberFormat | str) -> NDArray[np.uint8]:
    """Return codes as bytes: code i of b bits lies in bits i·b … (i + 1)·b − 1, counted from the lowest bit of the first byte.

    So the first of two 4-bit codes is the low half of its byte. Takes ⌈elements · b / 8⌉ bytes; the last is filled with zeros.
    Raises `InputError` for a code that is wider than the format.

    >>> pack([0x1, 0x2, 0xF], "int4").tolist()  # 0x21, 0x0F
    [33, 15]
    """
    form = as_format(form)
    bits = int(form.bits)
    flat = np.asarray(codes).reshape(-1)
    if flat.size and flat.dtype.kind not in "iu":
        raise InputError(f"codes of {form.name} are integers, not {flat.dtype}")
    if flat.size and (int(flat.min()) < 0 or int(flat.max()) >= 2**bits):
        raise InputError(f"codes of {form.name} have {bits} bits: 0 to {2**bits - 1}, not {flat.min()} to {flat.max()}")
    if bits % 8 == 0:
        return np.ascontiguousarray(flat, dtype=f"<u{bits // 8}").view(np.uint8)
    narrow = flat.astype(np.uint8)
    places = np.arange(bits, dtype=np.uint8)
    parts = [narrow[start : start + _CHUNK, None] >> places & np.uint8(1) for start in range(0, narrow.size, _CHUNK)]
    return np.concatenate([np.zeros(0, np.uint8), *(np.packbits(part, bitorder="little") for part in parts)])


def unpack(packed: ArrayLike, form: NumberFormat | str, count: int) -> Codes:
    """Return `count` codes from bytes, the inverse of `pack`.

    Raises `InputError` where the bytes are not as many as `count` codes take.

    >>> unpack([33, 15], "int4", 3).tolist()
    [1, 2, 15]
    """
    form = as_format(form)
    bits = int(form.bits)
    given = np.asarray(packed).reshape(-1)
    if given.size and (given.dtype.kind not in "iu" or int(given.min()) < 0 or int(given.max()) > 255):
        raise InputError("packed codes are bytes: integers from 0 to 255")
    flat = given.astype(np.uint8)
    if count < 0 or flat.size != -(-count * bits // 8):
        raise InputError(f"{count} codes of {form.name} take {-(-max(count, 0) * bits // 8)} bytes, not {flat.size}")
    if bits % 8 == 0:
        return flat.view(f"<u{bits // 8}").astype(code_type(form))
    step = _CHUNK * bits // 8
    weights = np.left_shift(np.uint8(1), np.arange(bits, dtype=np.uint8))
    parts = [np.zeros(0, np.uint8)]
    for start in range(0, flat.size, step):
        ones = np.unpackbits(flat[start : start + step], bitorder="little")
        whole = ones[: ones.size // bits * bits].reshape(-1, bits)
        parts.append((whole * weights).sum(axis=1, dtype=np.uint8))
    return np.concatenate(parts)[:count]
