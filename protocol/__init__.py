"""How a network is computed in private: HE parameters, packings, plans, circuits, and the two-party session."""

from typing import Final

KERNELS_VERSION: Final = 2
"""Raised whenever a change makes an operation faster or slower: profiles measured before are then stale."""
