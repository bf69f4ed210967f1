"""How a long step shows itself, without knowing to whom."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[], None]


class Progress(Protocol):
    """Begins a step: a context that gives a function to call, up to `total` times."""

    def __call__(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """Begin a step."""
        ...


@contextmanager
def silent(title: str, total: int) -> Iterator[Advance]:  # noqa: ARG001 - a `Progress`
    """Shows nothing."""
    yield lambda: None
