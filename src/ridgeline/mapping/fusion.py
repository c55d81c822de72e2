"""Which operations run as one, so that what passes between them never leaves the chip."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ridgeline.quantities import Count
from ridgeline.results import Operation, Tensor


def fuse(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Return the operations with every one that a neighbour can absorb fused into it.

    - scores, softmax and values become one attention: scores stay on chip [dao2022flashattention];
    - products that read the same activation become one (query, key and value; gate and up);
    - elementwise and row-wise operations join the product before them, or the one after where none is before.

    A tensor that is made and used inside a group crosses no memory, unless a later operation reads it again (`kept`).
    Only operations that repeat equally often are fused. This is the compulsory traffic of the `ideal` level.
    """
    groups: list[list[Operation]] = []
    for operation in operations:
        if groups and _joins(groups[-1], operation):
            groups[-1].append(operation)
        else:
            groups.append([operation])
    return tuple(_merge(group) if len(group) > 1 else group[0] for group in groups)


def _joins(group: Sequence[Operation], operation: Operation) -> bool:
    last = group[-1]
    if not _equal(group[0].count, operation.count):
        return False
    if operation.fusable or all(one.fusable for one in group):
        return True
    if operation.kind == "attention":
        return last.fusable and any(one.kind == "attention" and _passes_scores(one) for one in group)
    if operation.kind == "matmul" and last.kind == "matmul":
        return _input(last) == _input(operation)
    return False


def _equal(first: Count, second: Count) -> bool:
    return first is second or (type(first) in (int, float) and type(second) in (int, float) and first == second)


def _passes_scores(operation: Operation) -> bool:
    return any(tensor.role == "scores" for tensor in operation.writes)


def _input(operation: Operation) -> str:
    return operation.reads[0].name


def _merge(group: Sequence[Operation]) -> Operation:
    """Return one operation with the group's products and functions and the tensors that cross its boundary."""
    lead = next((one for one in group if one.products), group[0])
    attention = [one for one in group if one.kind == "attention"]
    functions: dict[str, Count] = {}
    for operation in group:
        for name, count in operation.functions.items():
            functions[name] = functions[name] + count if name in functions else count
    return replace(
        lead,
        name=_name(group, lead, bool(attention)),
        products=tuple(product for one in group for product in one.products),
        functions=functions,
        reads=tuple(_reads(group)),
        writes=tuple(_writes(group)),
        fusable=False,
    )


def _name(group: Sequence[Operation], lead: Operation, attention: bool) -> str:
    if attention:
        return lead.name.replace("index scores", "index").replace("scores", "attention")
    return joined([one.name for one in group if one.products] or [lead.name])


def joined(names: Sequence[str]) -> str:
    """Return names joined, the words that they begin with said once.

    >>> joined(["feed-forward gate", "feed-forward up"])
    'feed-forward gate + up'
    """
    words = [name.split(" ") for name in names]
    shared = 0
    while len(names) > 1 and all(len(one) > shared + 1 and one[shared] == words[0][shared] for one in words):
        shared += 1
    return " ".join([*words[0][:shared], " + ".join(" ".join(one[shared:]) for one in words)])


def _reads(group: Sequence[Operation]) -> Iterable[Tensor]:
    seen: set[str] = set()
    for operation in group:
        for tensor in operation.reads:
            if tensor.name not in seen:
                seen.add(tensor.name)
                yield tensor
        seen |= {tensor.name for tensor in operation.writes}


def _writes(group: Sequence[Operation]) -> Iterable[Tensor]:
    for index, operation in enumerate(group):
        for tensor in operation.writes:
            later = group[index + 1 :]
            used = any(tensor.name == one.name for other in later for one in other.reads)
            written_again = any(tensor.name == one.name for other in later for one in other.writes)
            if written_again or (used and not tensor.kept):
                continue
            yield tensor
