"""What goes wrong, said once: where, what, and what would be accepted."""

import difflib
from collections.abc import Iterable


class RidgelineError(Exception):
    """Any error that a user can mend; the command prints its one sentence and exits with `exit_code`."""

    exit_code = 2


class InputError(RidgelineError):
    """Bad input: a file, a name, a value or a combination of arguments."""


class UnitError(InputError, ValueError):
    """A unit that cannot be read, or that measures something else."""


class UnknownNameError(InputError):
    """A name that the catalogue does not hold; `kind` is one such as `chip`, or several with `or` between them."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        kinds = kind.split(" or ")
        listing = f"{' and '.join(f'`ridgeline show {one}`' for one in kinds)} {'lists' if len(kinds) == 1 else 'list'}"
        remedy = f"the nearest are {', '.join(near)}" if near else f"{listing} the {len(known)} known"
        super().__init__(f"unknown {kind} {name!r}: {remedy}; a file's path is accepted too")


class InfeasibleError(RidgelineError):
    """A valid question whose answer is that it cannot be done, with how much is missing."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause that suggests the nearest known name, or lists them all.

    >>> nearest("bandwith", ["bandwidth", "capacity"])
    'did you mean `bandwidth`?'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"known are {', '.join(f'`{one}`' for one in known)}"
