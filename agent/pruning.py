"""Options that are not worth tabulating: packing `slots` where `coefficients` does the same sooner.

An option with `slots` is left out if one with `coefficients` has the same widths and no larger t, takes no longer, and
errs so little that accuracy cannot tell. Circuits take no more gates modulo a power of two than modulo a prime of as
many bits, so no policy is lost that could be the fastest. Layers that meet have one t, and the two packings never do:
`slots` stay in all of them, or in none.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from autoprivacy.agent.coupling import Coupling
from autoprivacy.agent.options import Option

NEGLIGIBLE_ERROR: Final = 2.0**-10
"""In steps at 8 bits: a value is off by one once in a million."""

ENOUGH_BITS: Final = 64.0
"""`noise_bits` beyond this are all alike."""


def worth_trying(coupling: Coupling, options: Sequence[tuple[Option, ...]]) -> tuple[tuple[Option, ...], ...]:
    """The options of every layer without those that another one of the same layer replaces."""
    kept = dict(zip(coupling.layers, map(_kept, options), strict=True))
    whole = dict(zip(coupling.layers, options, strict=True))
    for meets in coupling.meetings:
        if any(option.chosen.packing == "slots" for layer in meets.layers for option in kept[layer]):
            kept.update({layer: whole[layer] for layer in meets.layers})
    return tuple(kept[layer] for layer in coupling.layers)


def _kept(options: tuple[Option, ...]) -> tuple[Option, ...]:
    fine: dict[tuple[int, int], list[Option]] = {}
    for option in options:
        if option.chosen.packing == "coefficients" and option.error <= NEGLIGIBLE_ERROR:
            fine.setdefault(_widths(option), []).append(option)
    return tuple(
        option
        for option in options
        if option.chosen.packing == "coefficients"
        or not any(_replaces(other, option) for other in fine.get(_widths(option), ()))
    )


def _widths(option: Option) -> tuple[int, int]:
    return option.chosen.weight_bits, option.chosen.activation_bits


def _replaces(other: Option, option: Option) -> bool:
    return (
        other.chosen.t <= option.chosen.t
        and other.seconds <= option.seconds
        and other.noise_bits >= np.minimum(option.noise_bits, ENOUGH_BITS)
    )
