"""How a network is computed in private: HE parameters, packings, plans, circuits, and the two-party session."""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from autoprivacy.protocol.session import Client

__all__ = ["KERNELS_VERSION", "Client"]

KERNELS_VERSION: Final = 8
"""Raised whenever a change makes an operation faster or slower: profiles measured before are then stale."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what a module holds may be anything
    """`Client`, which is imported when it is first asked for: it needs much that counting and planning do not."""
    if name == "Client":
        from autoprivacy.protocol.session import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
