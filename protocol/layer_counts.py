"""What one encrypted layer does, in closed form: calls of the interface of `he_interface` for one inference."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.records import record
from autoprivacy.protocol.packing import CoefficientLayout

Products: TypeAlias = NDArray[np.bool_]
"""Which products of a layer have a weight other than zero: (rows, in_parts), or `SlotLayout.products_shape`."""


@record
class LayerCounts:
    """Calls; `receive` stands for `receive_add_share` too, `encode` counts products that are encoded once for all."""

    encrypt: int
    receive: int
    rotate: int
    swap_rows: int
    to_ntt: int
    weighted_sum: int
    multiply_accumulate: int
    from_ntt: int
    add: int
    respond: int
    decrypt: int
    encode: int


def coefficient_counts(layout: CoefficientLayout, nonzero: Products | None = None) -> LayerCounts:
    """The counts of a layer in packing `coefficients`; by default no product is zero."""
    windows, rows = layout.window_count, layout.rows
    products = rows * layout.in_parts if nonzero is None else int(np.count_nonzero(nonzero))
    sums = rows if nonzero is None else int(np.count_nonzero(np.logical_or.reduce(nonzero, axis=1)))
    return LayerCounts(
        encrypt=layout.inputs,
        receive=layout.inputs,
        rotate=0,
        swap_rows=0,
        to_ntt=layout.inputs,
        weighted_sum=windows * sums,
        multiply_accumulate=windows * products,
        from_ntt=windows * sums,
        add=0,
        respond=layout.responses,
        decrypt=layout.responses,
        encode=products,
    )
