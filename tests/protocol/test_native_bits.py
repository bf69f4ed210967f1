"""Bit packing and bit matrices of the native core, against Python integers and numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprivacy.protocol import _native


@st.composite
def words_of_some_width(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(st.integers(1, 64))
    return draw(st.lists(st.integers(0, 2**bits - 1), max_size=40)), bits


@given(words_of_some_width())
def test_packing_is_one_long_little_endian_integer(case: tuple[list[int], int]) -> None:
    words, bits = case
    packed = _native.pack_bits(np.array(words, dtype=np.uint64), bits)
    joined = sum(word << (i * bits) for i, word in enumerate(words))
    assert packed == joined.to_bytes((len(words) * bits + 7) // 8, "little")
    assert _native.unpack_bits(packed, bits, len(words)).tolist() == words


@pytest.mark.parametrize("bits", range(1, 65))
def test_many_words_of_every_width_survive(bits: int) -> None:
    words = np.random.default_rng(bits).integers(0, 2**64, 1001, dtype=np.uint64) >> np.uint64(64 - bits)
    packed = _native.pack_bits(words, bits)
    assert len(packed) == (1001 * bits + 7) // 8
    np.testing.assert_array_equal(_native.unpack_bits(packed, bits, 1001), words)


@pytest.mark.parametrize("bits", [1, 7, 63])
def test_a_word_one_bit_too_wide_is_refused(bits: int) -> None:
    _native.pack_bits(np.array([2**bits - 1], dtype=np.uint64), bits)
    with pytest.raises(ValueError, match=f"wider than {bits} bits"):
        _native.pack_bits(np.array([0, 2**bits], dtype=np.uint64), bits)


def test_wrong_widths_lengths_and_padding_are_refused() -> None:
    for bits in (0, 65, -1):
        with pytest.raises(ValueError, match="use 1 to 64"):
            _native.pack_bits(np.zeros(1, dtype=np.uint64), bits)
        with pytest.raises(ValueError, match="use 1 to 64"):
            _native.unpack_bits(b"", bits, 0)
    for data in (b"\0", b"\0\0\0"):
        with pytest.raises(ValueError, match="3 words of 5 bits take 2"):
            _native.unpack_bits(data, 5, 3)
    with pytest.raises(ValueError, match="padding"):
        _native.unpack_bits(b"\0\x80", 5, 3)
    with pytest.raises(ValueError, match="fit in memory"):
        _native.unpack_bits(b"", 64, 2**60)
    with pytest.raises(TypeError):
        _native.pack_bits(np.zeros(3, dtype=np.int64), 5)


@pytest.mark.parametrize("path", _native.aes_paths())
@pytest.mark.parametrize("row_bytes", [0, 16, 48])
def test_transposing_bits(row_bytes: int, path: str) -> None:
    rows = np.random.default_rng(row_bytes).integers(0, 256, (128, row_bytes), dtype=np.uint8)
    expected = np.packbits(np.unpackbits(rows, axis=1, bitorder="little").T, axis=1, bitorder="little")
    np.testing.assert_array_equal(_native.transpose_bits(rows, path), expected.reshape(-1, 16))


def test_only_whole_bit_matrices_are_transposed() -> None:
    with pytest.raises(ValueError, match="the matrix has 128"):
        _native.transpose_bits(np.zeros((127, 16), dtype=np.uint8))
    with pytest.raises(ValueError, match="multiple of 16"):
        _native.transpose_bits(np.zeros((128, 8), dtype=np.uint8))


def test_words_of_more_than_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 64"):
        _native.words_of_bits(np.zeros((65, 1), dtype=np.uint8))
    with pytest.raises(ValueError, match="use 0 to 64"):
        _native.bits_of_words(np.zeros(1, dtype=np.uint64), 65)
