"""
Native core: AES-128, half gates, oblivious transfer, bit matrices and bit packing. `path` is 'best' or one of `aes_paths()`.
"""

from typing import Annotated

import numpy
from numpy.typing import NDArray


def aes_path() -> str:
    """The path that 'best' takes on this processor."""

def aes_paths() -> list[str]:
    """
    The paths that this processor has and that gave the portable one's bytes on known answers, narrowest first.
    """

def encrypt_counters(blocks: int, path: str = 'best') -> bytes:
    """
    Encrypt `blocks` counters (a multiple of 256) under one key, in the cache: how fast AES can be here. Returns the first of the last 256.
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

def transpose_bits(rows: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], path: str = 'best') -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
    """
    Transpose 128 rows of bits (128, bytes): bit i of row j of the result (8 * bytes, 16) is bit j of row i.
    """

def pack_bits(words: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], bits: int) -> bytes:
    """
    The lowest `bits` bits of every word, contiguous and little endian; words that are wider are refused.
    """

def unpack_bits(data: bytes, bits: int, count: int) -> Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C')]:
    """The inverse of `pack_bits`; the length and the padding must be right."""

def bits_of_words(words: Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C', device='cpu', writable=False)], width: int) -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
    """
    The lowest `width` bits of every word (count,) as (width, count) of 0 and 1, little endian.
    """

def words_of_bits(bits: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)]) -> Annotated[NDArray[numpy.uint64], dict(shape=(None,), order='C')]:
    """The inverse of `bits_of_words`."""

STRIPE: int = 64

class Program:
    """
    A circuit prepared for garbling and evaluation. `hash` is 'rekeyed' or 'tmmo'.
    """

    def __init__(self, gates: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order='C', device='cpu', writable=False)], server_inputs: Annotated[NDArray[numpy.bool_], dict(shape=(None,), order='C', device='cpu', writable=False)], outputs: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> None: ...

    @property
    def and_gates(self) -> int:
        """AND gates of one instance."""

    @property
    def scratch_labels(self) -> int:
        """Labels of one instance that are held at a time."""

    def garble(self, input_zero_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], delta: bytes, start: bytes, first_row: int = 0, hash: str = 'rekeyed', path: str = 'best') -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
        """
        Tables (AND gates * instances, 32) and zero labels of the outputs (outputs, instances, 16). Row r takes the tweaks 2r and 2r + 1.
        """

    def evaluate(self, input_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], tables: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], start: bytes, first_row: int = 0, hash: str = 'rekeyed', path: str = 'best') -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C')]:
        """Active labels of the outputs (outputs, instances, 16)."""

    def garble_piece(self, message: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu')], client_zero_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], server_bits: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], first: int, count: int, delta: bytes, start: bytes, seed: bytes, hash: str = 'rekeyed', path: str = 'best') -> None:
        """
        Write the message of `count` instances from `first` on: the server's active labels (expanded from `seed`), colours, tables. Labels (client's inputs, instances, 16) and bits (server's inputs, instances), 0 and 1, are of the whole batch.
        """

    def evaluate_piece(self, message: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], client_labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], first: int, count: int, start: bytes, bits: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu')], hash: str = 'rekeyed', path: str = 'best') -> None:
        """
        Evaluate such a message, and write what comes out into its columns of `bits` (outputs, instances).
        """

class OtReceiver:
    """
    The receiver of transfers extended from 128 pairs of seeds (128, 16); it goes on where it ended.
    """

    def __init__(self, zero_seeds: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], one_seeds: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], path: str = 'best') -> None: ...

    def extend(self, choices: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)]) -> tuple[NDArray[numpy.uint8], NDArray[numpy.uint8]]:
        """
        The message to the sender (128 * ceil(count / 8),) and the active labels (count, 16), for choices (count,) of 0 and 1.
        """

class OtSender:
    """The sender: a seed of each pair, by the bits of Delta."""

    def __init__(self, seeds: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], delta: bytes, path: str = 'best') -> None: ...

    def extend(self, message: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], count: int) -> Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C')]:
        """The zero labels (count, 16)."""
