"""
Native core: AES-128, half gates, bit matrices and bit packing. `path` is 'best', 'portable' or 'aesni'.
"""

from typing import Annotated

import numpy
from numpy.typing import NDArray


def aes_path() -> str:
    """
    The AES path that 'best' takes on this processor: 'aesni' or 'portable'.
    """

def aes_encrypt(keys: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], blocks: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], path: str = 'best') -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
    """
    Encrypt row i of `blocks` (count, 16) with AES-128 under row i of `keys` (count, 16).
    """

def prg(seed: bytes, byte_count: int, counter: int = 0, path: str = 'best') -> Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C')]:
    """
    AES-128 in counter mode: the stream of a 16-byte seed from block `counter` on; the counter is the lower half of the block.
    """

def prg_rows(seeds: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], row_bytes: int, counter: int = 0, path: str = 'best') -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
    """Row i is what `prg` makes of seed i (rows, 16)."""

def transpose_bits(rows: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
    """
    Transpose 128 rows of bits (128, bytes): bit i of row j of the result (8 * bytes, 16) is bit j of row i.
    """

def pack_bits(words: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], bits: int) -> bytes:
    """
    The lowest `bits` bits of every word, contiguous and little endian; words that are wider are refused.
    """

def unpack_bits(data: bytes, bits: int, count: int) -> Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C')]:
    """The inverse of `pack_bits`; the length and the padding must be right."""

def garble(gates: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', writable=False)], input_zero_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], outputs: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], delta: bytes, start: bytes, path: str = 'best') -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
    """
    Tables (and_gates, instances, 32) and zero labels of the outputs (outputs, instances, 16).
    """

def evaluate(gates: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', writable=False)], input_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], outputs: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], tables: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], start: bytes, path: str = 'best') -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')]:
    """Active labels of the outputs (outputs, instances, 16)."""
