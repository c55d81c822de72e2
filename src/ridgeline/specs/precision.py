"""A precision names the formats of weights, activations, KV cache and accumulation, as in `w4a16kv8`."""

import re
from dataclasses import dataclass

from ridgeline.errors import InputError
from ridgeline.specs.number_format import FORMATS, NumberFormat, number_format


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Number formats by role; what is None follows from another role.

    >>> Precision.parse("w4a16kv8").weights.name, Precision.parse("w4a16kv8").kv.name
    ('int4', 'int8')
    """

    name: str
    weights: NumberFormat
    activations: NumberFormat
    kv: NumberFormat
    expert_weights: NumberFormat | None = None  # None: as `weights`
    embedding_weights: NumberFormat | None = None  # token embedding table; None: as `weights`
    head_weights: NumberFormat | None = None  # output head; None: as `weights`
    accumulate: NumberFormat | None = None  # None: the compute format's own
    wide: NumberFormat | None = None  # products' outputs, norms and the residual stream; None: the activations', at least bf16

    @property
    def experts(self) -> NumberFormat:
        """Format of routed experts' weights."""
        return self.expert_weights or self.weights

    @property
    def embedding(self) -> NumberFormat:
        """Format of the token embedding table."""
        return self.embedding_weights or self.weights

    @property
    def stream(self) -> NumberFormat:
        """Format of the residual stream, of norms and of products' outputs: at least 16 bits unless said otherwise."""
        if self.wide is not None:
            return self.wide
        return self.activations if self.activations.bits >= 16 else FORMATS["bf16"]

    @property
    def head(self) -> NumberFormat:
        """Format of the output head."""
        return self.head_weights or self.weights

    @classmethod
    def uniform(cls, form: NumberFormat) -> "Precision":
        """One format for everything."""
        return cls(name=form.name, weights=form, activations=form, kv=form)

    @classmethod
    def parse(cls, text: str) -> "Precision":
        """Read a format's name, a named recipe (`q4_k_m`, `mxfp4`) or a form such as `w4a16kv8` or `w:fp8,a:bf16,kv:fp8,acc:fp16`.

        A bare number of bits means integers at 8 bits and below and bf16 at 16.
        """
        key = text.strip().lower()
        if key in RECIPES:
            return RECIPES[key]
        if ":" in key:
            return _from_pairs(text, key)
        if match := re.fullmatch(r"w(?P<w>[0-9]+)a(?P<a>[0-9]+)(?:kv(?P<kv>[0-9]+))?", key):
            weights, activations = _of_bits(match["w"], text), _of_bits(match["a"], text)
            kv = _of_bits(match["kv"], text) if match["kv"] else _cache_format(activations)
            return cls(name=key, weights=weights, activations=activations, kv=kv)
        form = number_format(key)
        if form.multiplies or form.name in _WEIGHT_ONLY:
            return _weight_only(form.name, form)
        return cls.uniform(form)


_BITS = {"1": "binary", "2": "int2", "4": "int4", "6": "fp6", "8": "int8", "16": "bf16", "32": "fp32"}
_WEIGHT_ONLY = frozenset({"ternary", "binary", "int2"})


def _of_bits(bits: str, text: str) -> NumberFormat:
    if bits not in _BITS:
        raise InputError(f"precision {text!r}: {bits} bits have no format; known are {', '.join(_BITS)}")
    return FORMATS[_BITS[bits]]


def _cache_format(activations: NumberFormat) -> NumberFormat:
    """KV caches stay at 16 bits unless asked otherwise, even under 8-bit activations."""
    return activations if activations.bits >= 16 else FORMATS["bf16"]


def _weight_only(name: str, weights: NumberFormat, head: NumberFormat | None = None) -> Precision:
    sixteen = FORMATS["bf16"]
    return Precision(name=name, weights=weights, activations=sixteen, kv=sixteen, head_weights=head)


def _from_pairs(text: str, key: str) -> Precision:
    roles = {
        "w": "weights",
        "a": "activations",
        "kv": "kv",
        "e": "expert_weights",
        "emb": "embedding_weights",
        "h": "head_weights",
        "acc": "accumulate",
        "wide": "wide",
    }
    parts = [part.partition(":") for part in key.split(",")]
    pairs = {role.strip(): form for role, _, form in parts}
    if "w" not in pairs or not pairs.keys() <= roles.keys() or len(pairs) < len(parts) or not all(pairs.values()):
        raise InputError(f"precision {text!r}: write roles {', '.join(roles)} as in `w:fp8,a:bf16,kv:fp8`, at least `w`")
    found = {roles[role]: number_format(form) for role, form in pairs.items()}
    found.setdefault("activations", found["weights"] if found["weights"].bits >= 16 else FORMATS["bf16"])
    found.setdefault("kv", _cache_format(found["activations"]))
    return Precision(name=key, **found)


# llama.cpp keeps the output head of these mixes in q6_k [llamacpp2024quantize].
RECIPES: dict[str, Precision] = {
    "q4_k_m": _weight_only("q4_k_m", FORMATS["q4_k_m"], FORMATS["q6_k"]),
    "q4_0": _weight_only("q4_0", FORMATS["q4_0"], FORMATS["q6_k"]),
    "q8_0": _weight_only("q8_0", FORMATS["q8_0"]),
    "mxfp4": _weight_only("mxfp4", FORMATS["mxfp4"]),
    "fp8-block": Precision(
        name="fp8-block",
        weights=FORMATS["fp8-block"],
        activations=FORMATS["fp8-e4m3"],
        kv=FORMATS["bf16"],
        embedding_weights=FORMATS["bf16"],
        head_weights=FORMATS["bf16"],
    ),
}
