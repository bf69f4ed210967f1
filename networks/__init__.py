"""What is computed: layers, trained weights, quantisation, and the exact integer reference."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from autoprivacy.networks.checkpoint import TrainedNetwork

__all__ = ["load"]


def load(name_or_path: "str | Path") -> "TrainedNetwork":
    """A trained network: one of those shipped, by name, or a checkpoint file of the user's.

    Raises:
        BadInput: if there is no such network, or its files are damaged.
    """
    from autoprivacy.networks import zoo

    return zoo.load(name_or_path)
