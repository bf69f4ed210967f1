"""How errors of an import say where in the foreign graph they arose."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from autoprivacy.common.errors import BadInput

LONGEST: Final = 2000
"""How many characters of a message are shown."""


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put in front of a `BadInput` where it arose, unless it says so, and keep it to one line of a sensible length."""
    try:
        yield
    except BadInput as error:
        message = str(error)
        named = message if message.startswith(where) else f"{where}: {message}"
        # Names of a foreign graph may hold anything, line ends and what steers a terminal included.
        line = "".join(character if character.isprintable() else "?" for character in named[: LONGEST + 1])
        raise BadInput(line if len(line) <= LONGEST else f"{line[:LONGEST]}...") from None


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
