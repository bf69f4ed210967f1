"""A layer's weights, encoded ahead as far as a budget of memory goes; the rest is encoded whenever it is used."""

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar, overload

from autoprivacy.protocol.linear_layer import Layout
from autoprivacy.protocol.linear_shape import IntArray

P_co = TypeVar("P_co", covariant=True)


class Encoder(Protocol[P_co]):
    """The part of `he_interface.ServerHe` that encodes."""

    def encode_weights(self, values: IntArray) -> P_co | None:
        """A multiplier of n signed integers, or None where all are zero."""
        ...


def product_bytes(n: int, limbs: tuple[int, ...]) -> int:
    """What one encoded product takes in memory: a polynomial of 64-bit words modulo every data limb."""
    return 8 * n * len(limbs)


class EncodedWeights(Sequence[list[P_co | None]], Generic[P_co]):
    """The products of every sum of a layer, as `linear_layer.answer` takes them.

    Args:
        he: encodes.
        layout: says where weights sit.
        weight: integers (M, C / groups, kh, kw).
        product_bytes: what one encoded product takes in memory.
        budget_bytes: what all that is kept may take.
    """

    def __init__(
        self, he: Encoder[P_co], layout: Layout, weight: IntArray, product_bytes: int, budget_bytes: int
    ) -> None:
        self._he, self._layout, self._weight = he, layout, weight
        self._kept: list[list[P_co | None]] = []
        self.kept_bytes = 0
        for row, products in enumerate(layout.nonzero(weight).reshape(layout.weight_rows, -1).sum(axis=1).tolist()):
            size = products * product_bytes
            if self.kept_bytes + size > budget_bytes:
                break
            self._kept.append(self._encode(row))
            self.kept_bytes += size

    def _encode(self, row: int) -> list[P_co | None]:
        (products,) = self._layout.encode_weights(self._weight, [row])
        return [self._he.encode_weights(values) for values in products]

    @overload
    def __getitem__(self, row: int) -> list[P_co | None]: ...
    @overload
    def __getitem__(self, row: slice) -> list[list[P_co | None]]: ...
    def __getitem__(self, row: int | slice) -> list[P_co | None] | list[list[P_co | None]]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        return self._kept[row] if row < len(self._kept) else self._encode(row)

    def __len__(self) -> int:
        return self._layout.weight_rows

    def __iter__(self) -> Iterator[list[P_co | None]]:
        return (self[row] for row in range(len(self)))
