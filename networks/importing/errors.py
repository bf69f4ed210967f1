"""How errors of an import say where in the foreign graph they arose."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from autoprivacy.common.errors import BadInput


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put in front of a `BadInput` where it arose, unless it says so."""
    try:
        yield
    except BadInput as error:
        message = str(error)
        raise BadInput(message if message.startswith(where) else f"{where}: {message}") from None


def refuse_unsupported(found: Mapping[str, str], supported: Collection[str]) -> None:
    """Name all operators that there is no handler for, each with a place where it is used.

    Raises:
        BadInput: if there are any.
    """
    if found:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise BadInput(
            f"not supported: {', '.join(list(found.values())[:10])}{more}; supported are: "
            f"{', '.join(sorted(supported, key=str.lower))}"
        )
