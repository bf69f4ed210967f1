"""The server's part of a layer in packing `coefficients`, written once, for every interpreter (`he_interface`)."""

from collections.abc import Callable, Iterator, Sequence

from autoprivacy.protocol.he_interface import C, P, ServerHe, W
from autoprivacy.protocol.packing import CoefficientLayout


def totals(
    he: ServerHe[W, C, P],
    layout: CoefficientLayout,
    weights: Sequence[Sequence[P | None]],
    received: Callable[[int], C],
    chosen: Sequence[int],
) -> Iterator[C | None]:
    """For each of the `chosen` responses, ascending, the sum of its products in coefficient form; None is zero.

    `weights` are [rows][in_parts], `received` gives an input by its number and is asked once for each that is needed.
    """
    held, inputs = slice(0), list[C]()
    for response in chosen:
        wanted = layout.inputs_of(response)
        if wanted != held:
            # Responses that read the same inputs follow one another.
            held, inputs = wanted, [he.to_ntt(received(i)) for i in range(wanted.start, wanted.stop)]
        total = he.weighted_sum(inputs, weights[response % layout.rows])
        yield None if total is None else he.from_ntt(total)
