"""Balance of attention: how much arithmetic each byte of keys and values supports."""

from ridgeline.quantities import Bytes, Count, FlopsPerByte


def intensity(*, queries: Count, keys: Count, element: Bytes = 2.0) -> FlopsPerByte:
    """FLOPs per byte of attention, heads that share nothing, scores kept on chip.

        4·S·T·size / (element · 2·(S + T)·size) = 2·S·T / (element · (S + T))   for S queries against T keys

    At two bytes a value S·T / (S + T) [fleetwood2025dsa]: for one query near 1, for S = T it is T / 2.

    Full attention; under a causal mask with S = T the arithmetic halves and the bytes do not.

    >>> intensity(queries=1, keys=4095), intensity(queries=1024, keys=1024)
    (0.999755859375, 512.0)
    """
    return 2.0 * queries * keys / (element * (queries + keys))


def critical_tokens(*, ops_per_byte: FlopsPerByte, element: Bytes = 2.0, group: Count = 1.0, causal: bool = False) -> Count:
    """Prompt length at which prefill attention turns compute-bound, scores kept on chip.

        4·T²·heads·size / (element · 2·T·(heads + kv_heads)·size) = ops:byte   ⇒   T = element · (1 + 1/group) / 2 · ops:byte

    For two bytes and no sharing T = 2 · ops:byte [fleetwood2025dsa]; `group` query heads that share a KV head read less, and a
    causal mask halves the arithmetic.

    >>> round(critical_tokens(ops_per_byte=295.2))
    590
    """
    return element * (1.0 + 1.0 / group) / 2.0 * ops_per_byte * (2.0 if causal else 1.0)


def cache_bytes_per_token(*, layers: Count, kv_heads: Count, head_size: Count, element: Bytes) -> Bytes:
    """Bytes that a token adds to the cache of multi-head, grouped-query or multi-query attention.

        2 · layers · kv_heads · head_size · element   [fleetwood2025dsa]

    >>> cache_bytes_per_token(layers=61, kv_heads=56, head_size=128, element=2)
    1748992
    """
    return 2 * layers * kv_heads * head_size * element


def latent_cache_bytes_per_token(*, layers: Count, rank: Count, rotary_size: Count, element: Bytes) -> Bytes:
    """Bytes that a token adds to the cache of multi-head latent attention.

        layers · (rank + rotary) · element   [deepseek2024v2]; the post leaves the rotary part out [fleetwood2025dsa]

    >>> latent_cache_bytes_per_token(layers=61, rank=512, rotary_size=0, element=2)
    62464
    """
    return layers * (rank + rotary_size) * element
