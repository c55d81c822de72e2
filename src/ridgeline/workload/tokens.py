"""How many tokens a layer sees, how many pairs of tokens attend, and how many experts they touch."""

from dataclasses import dataclass

from ridgeline.arrays import clip, minimum, total
from ridgeline.quantities import Count, Fraction
from ridgeline.specs.model import Attention


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """The tokens of one step: `sequences` sequences bring `new` tokens each, after `past` that are cached.

    With `steps`, an average step of that many: the past grows by `new` with each, from `past` on.
    """

    sequences: Count
    new: Count
    past: Count = 0.0
    causal: bool = True
    steps: Count | None = None
    head: Count = 1.0  # tokens a sequence for which logits are computed
    shared: Count = 0.0  # tokens of the past that groups of sequences share …
    sharing: Count = 1.0  # … this many sequences a group
    decoding: bool = False

    @property
    def count(self) -> Count:
        """New tokens of all sequences."""
        return self.sequences * self.new

    def pairs(self, attention: Attention) -> Count:
        """Pairs of query and key that attend, a sequence and step.

        >>> Tokens(sequences=1, new=4).pairs(Attention(heads=1, kv_heads=1, head_size=64))  # 1 + 2 + 3 + 4
        10.0
        """
        new = self.new if self.steps is None else self.new * self.steps
        if not self.causal:
            return self.new * (self.past + self.new)
        pairs = attended_pairs(past=self.past, new=new, window=attention.window, chunked=attention.window_kind == "chunked")
        return pairs if self.steps is None else pairs / self.steps

    def span(self, attention: Attention) -> Count:
        """Cached and new tokens that a step reads of a sequence: the union of what its queries see."""
        if self.steps is not None:
            return self.pairs(attention) / self.new + (self.new - 1) / 2
        return key_span(past=self.past, new=self.new, window=attention.window, chunked=attention.window_kind == "chunked")

    def spans(self, attention: Attention) -> Count:
        """Tokens of keys that a step reads of all sequences; what sequences share is read once a group."""
        span = self.span(attention)
        apart = self.sequences - self.sequences / self.sharing
        return self.sequences * span - apart * minimum(self.shared, span)


def attended_pairs(*, past: Count, new: Count, window: Count | None = None, chunked: bool = False) -> Count:
    """Return the pairs of a causal mask: new token i (from 1) sees `past + i` tokens, at most `window` of them.

        Σᵢ min(past + i, window);  chunked: token at position p sees (p mod window) + 1

    >>> attended_pairs(past=0.0, new=4.0)
    10.0
    >>> attended_pairs(past=2.0, new=3.0, window=4.0)  # 3 + 4 + 4
    11.0
    >>> attended_pairs(past=0.0, new=6.0, window=4.0, chunked=True)  # 1 + 2 + 3 + 4 + 1 + 2
    13.0
    """
    if window is None:
        return new * past + new * (new + 1) / 2
    if chunked:
        return _chunked_pairs(past + new, window) - _chunked_pairs(past, window)
    growing = clip(window - past, 0.0 * new, new)  # tokens that still see all before them
    return growing * past + growing * (growing + 1) / 2 + (new - growing) * window


def _chunked_pairs(position: Count, window: Count) -> Count:
    chunks = position // window
    rest = position - chunks * window
    return chunks * (window * (window + 1) / 2) + rest * (rest + 1) / 2


def key_span(*, past: Count, new: Count, window: Count | None = None, chunked: bool = False) -> Count:
    """Return how many tokens' keys the new tokens of a sequence read: everything in their windows, once.

    >>> key_span(past=100.0, new=1.0), key_span(past=100.0, new=1.0, window=16.0)
    (101.0, 16.0)
    """
    if window is None:
        return past + new
    if chunked:
        return past + new - (past // window) * window
    return minimum(past + new, window - 1 + new)


def experts_touched(*, experts: Count, active: Count, tokens: Count, skew: float = 0.0) -> Count:
    """Return the expected number of distinct experts that `tokens` tokens visit, `active` distinct ones each.

        Σₑ 1 − (1 − πₑ)^tokens,   πₑ the probability that one token visits expert e, Σₑ πₑ = active

    Uniform routing has πₑ = active / experts. With a skew s, expert popularity follows Zipf's law (rank^−s) and
    πₑ = 1 − (1 − pₑ)^κ, with κ draws such that Σ πₑ = active. Tokens are taken as independent.

    >>> experts_touched(experts=8, active=2, tokens=1)
    2.0
    >>> round(experts_touched(experts=8, active=2, tokens=4), 4)  # 8 · (1 − 0.75⁴)
    5.4688
    """
    if skew == 0.0:
        return experts * (1.0 - (1.0 - active / experts) ** tokens)
    return total([1.0 - (1.0 - one) ** tokens for one in visit_probabilities(int(experts), float(active), skew)])


def visit_probabilities(experts: int, active: float, skew: float) -> list[Fraction]:
    """Return the probability that a token visits each expert, most popular first; they sum to `active`.

    >>> [round(one, 3) for one in visit_probabilities(4, 2, 0.0)]
    [0.5, 0.5, 0.5, 0.5]
    """
    weights = [rank**-skew for rank in range(1, experts + 1)]
    whole = sum(weights)
    shares = [weight / whole for weight in weights]
    low, high = 0.0, 1e9
    for _ in range(200):
        draws = (low + high) / 2
        visits = sum(1.0 - (1.0 - share) ** draws for share in shares)
        low, high = (draws, high) if visits < active else (low, draws)
    return [1.0 - (1.0 - share) ** high for share in shares]


def busiest_share(*, experts: int, active: float, ranks: int, skew: float) -> Fraction:
    """Return the share of all visits that the busiest rank gets, with popular experts dealt out in turn; 1/ranks if uniform.

    >>> busiest_share(experts=8, active=2, ranks=4, skew=0.0)
    0.25
    """
    visits = visit_probabilities(experts, active, skew)
    return round(max(sum(visits[rank::ranks]) for rank in range(ranks)) / sum(visits), 12)
