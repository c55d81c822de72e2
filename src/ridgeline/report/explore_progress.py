"""How far a long sweep is: points done, points a second, time left; on stderr, where that is a terminal."""

from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def points_bar(name: str) -> Generator[Callable[[int, int], None]]:
    """Yield a function that takes the points done and the points in all."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} points"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as bar:
        task = bar.add_task(name, total=1, rate="")

        def advance(done: int, points: int) -> None:
            bar.update(task, completed=done, total=points)
            speed = bar.tasks[0].speed
            bar.update(task, rate="" if speed is None else f"{speed:,.0f} points/s")

        yield advance
