"""Which operations run as one, so that what passes between them never leaves the chip."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ridgeline.quantities import Count
from ridgeline.results import Operation, Tensor


def fuse(
    operations: Sequence[Operation], joins: "Callable[[Sequence[Operation], Operation], bool] | None" = None
) -> tuple[Operation, ...]:
    """Return the operations with every one that a neighbour can absorb fused into it; `joins` may say which ones can.

    - scores, softmax and values become one attention: scores stay on chip [dao2022flashattention];
    - products that read the same activation become one (query, key and value; gate and up);
    - elementwise and row-wise operations join the product before them, or the one after where none is before.

    A tensor that is made and used inside a group crosses no memory, unless a later group reads it again, in this layer or in a
    later one (`kept`). One that is changed in place, even in part, crosses whole and once.
    Only operations of one layer group are fused. This is the compulsory traffic of the `ideal` level.
    """
    groups: list[list[Operation]] = []
    for operation in operations:
        if groups and (joins or _joins)(groups[-1], operation):
            groups[-1].append(operation)
        else:
            groups.append([operation])
    fused: list[Operation] = []
    needed: frozenset[str] = frozenset()  # what later groups read before it is written again
    for group in reversed(groups):
        fused.append(merge(group, needed) if len(group) > 1 else group[0])
        for operation in reversed(group):
            needed = needed - {tensor.name for tensor in operation.writes} | {tensor.name for tensor in operation.reads}
    return tuple(reversed(fused))


def _joins(group: Sequence[Operation], operation: Operation) -> bool:
    last = group[-1]
    if group[0].place != operation.place:
        return False
    if operation.fusable or all(one.fusable for one in group):
        return True
    if operation.kind == "attention":
        return last.fusable and any(one.kind == "attention" and passes_scores(one) for one in group)
    if operation.kind == "matmul" and last.kind == "matmul":
        return _input(last) == _input(operation)
    return False


def _equal(first: Count, second: Count) -> bool:
    if first is second:
        return True
    if type(first) in (int, float) and type(second) in (int, float):
        return first == second
    both = type(first).__module__ == type(second).__module__ == "numpy"
    return both and first.shape == second.shape and bool((first == second).all())


def passes_scores(operation: Operation) -> bool:
    """Say whether an operation writes the scores of attention."""
    return any(tensor.role == "scores" for tensor in operation.writes)


def _input(operation: Operation) -> str:
    return operation.reads[0].name


def merge(group: Sequence[Operation], needed: frozenset[str]) -> Operation:
    """Return one operation with a group's products and functions and the tensors that cross its boundary."""
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
        writes=tuple(_writes(group, needed)),
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


def _writes(group: Sequence[Operation], needed: frozenset[str]) -> Iterable[Tensor]:
    made: set[str] = set()
    for index, operation in enumerate(group):
        for tensor in operation.writes:
            name = tensor.name
            if name in made and _changes(operation, name):
                continue
            made.add(name)
            others = [one for one in group[index + 1 :] if not _changes(one, name)]
            made_again = any(one.name == name for other in others for one in other.writes)
            used = any(one.name == name for other in others for one in other.reads)
            if not made_again and (tensor.kept or name in needed or not used):
                yield tensor


def _changes(operation: Operation, name: str) -> bool:
    """Say whether an operation changes a tensor in place: it writes as many elements of it as it reads."""
    read = [tensor.elements for tensor in operation.reads if tensor.name == name]
    return any(_equal(elements, tensor.elements) for tensor in operation.writes if tensor.name == name for elements in read)
