"""What is being measured, and how much is left; on stderr."""

from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def works_bar() -> Generator[Callable[[str, int, int], None]]:
    """Yield a function that takes what is under way, the works done and the works in all."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("measuring", total=1)

    def advance(name: str, done: int, works: int) -> None:
        bar.start()  # when there is something to say: what is refused at once is said alone
        bar.update(task, description=name, completed=done, total=works)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
