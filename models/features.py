"""What an operation's time depends on: one function for what was measured (samples) and what is planned (work).

Every feature is a total over calls, so that a sum of works has the sum of their features. Symbols:

| symbol | meaning |
|---|---|
| calls, items, values, bytes, wires | of a `Work`, `WorkDone` or `Sample` |
| n | ring degree, per call |
| L | data limbs of the ciphertexts that the call works on |
| S | limbs that work is done on while switching: those left after each limb that goes, added up |
| steps | gates of a circuit, each done for all its instances at once, per call |
| odd | products of 64-bit words that a sum adds one by one, others go four at once |
| tiles | of `TILE` oblivious transfers; ragged where a call's are no multiple of `ALIGNED` |
| cold, colder, coldest | share of what a call reads that a cache does not hold (`CACHES_BYTES`) |
| crowded, thronged | share of products beyond those that the machine keeps pace with (`STREAMS`) |

HE operations of our own kernels (`ring`) compute in 32-bit words where all primes are below 2^30, which is another
code path with times of its own; their features come twice, once for each word.
"""

from collections.abc import Iterable
from math import ceil, log2
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import UnmodelledOperation


class Handled(Protocol):
    """What features are made of: a plan's `Work`, a profile's `Sample`, the work of a measured layer."""

    @property
    def operation(self) -> str: ...  # noqa: D102 - see the table of `hwprofiles/samples.py`
    @property
    def kernel(self) -> str: ...  # noqa: D102
    @property
    def privacy(self) -> str: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def limbs(self) -> int: ...  # noqa: D102
    @property
    def limb_bits(self) -> int: ...  # noqa: D102
    @property
    def q_bits(self) -> int: ...  # noqa: D102
    @property
    def t_bits(self) -> int: ...  # noqa: D102
    @property
    def kept(self) -> int: ...  # noqa: D102
    @property
    def special(self) -> int: ...  # noqa: D102
    @property
    def calls(self) -> int: ...  # noqa: D102
    @property
    def items(self) -> int: ...  # noqa: D102
    @property
    def values(self) -> int: ...  # noqa: D102
    @property
    def bytes(self) -> int: ...  # noqa: D102
    @property
    def wires(self) -> int: ...  # noqa: D102


class Key(NamedTuple):
    """What has a model of its own: an operation, on one kernel; responses also by whether they are masked at all."""

    operation: str
    kernel: str = ""
    variant: str = ""

    def __str__(self) -> str:
        """As it is called in tables and files."""
        return " ".join(part for part in self if part)


def key_of(handled: Handled) -> Key:
    """The model that a work or a sample belongs to."""
    variant = ""
    if handled.operation == "respond":
        variant = handled.privacy
    if handled.operation == "weighted_sum" and handled.state == "hot":
        variant = "hot"
    return Key(handled.operation, handled.kernel, variant)


_LINEAR: Final = ("calls", "nL")
_TRANSFORM: Final = ("calls", "nL", "nL log n")
_SWITCHING: Final = ("calls", "nL", "nL log n", "nLL", "nLL log n")
_TRANSFERS: Final = ("calls", "tiles", "tiles ragged", "items", "items mapped", "items cold")
_CONVERTED: Final = ("calls", "n", "nL", "nL log n", "nLL", "bytes")

FEATURES: Final[dict[str, tuple[str, ...]]] = {
    "encrypt": ("calls", "n", "nL", "nL log n", "bytes"),
    "decrypt": (*_CONVERTED, "items"),
    "receive": ("calls", "nL", "nL, 32-bit words", "nL cold"),
    "receive_add_share": ("calls", "n", "nL", "nL, 32-bit words", "nL cold"),
    "to_ntt": (*_TRANSFORM, "nL cold"),
    "from_ntt": _TRANSFORM,
    "add": _LINEAR,
    "rotate": _SWITCHING,
    "swap_rows": _SWITCHING,
    "switch_limb": ("calls", "nL", "nS"),
    "weighted_sum": (
        *("calls", "nL", "items", "items nL", "additions nL", "odd nL"),
        *("items nL cold", "items nL colder", "items nL coldest", "items nL crowded", "items nL thronged"),
    ),
    "multiply_plain": _LINEAR,
    "multiply_relinearise": (*_SWITCHING, "nLLL"),
    "respond": ("calls", "n", "nL", "nL log n", "nS", "bytes", "items"),
    "encrypt_zero": ("calls", "n", "nL", "nL log n"),
    "encode": ("calls", "n", "n log n", "nL", "nL log n"),
    "decode": ("calls", "n", "n log n"),
    "serialise": ("calls", "nL", "bytes"),
    "deserialise": ("calls", "nL", "bytes"),
    "pack": ("calls", "items", "bytes"),
    "unpack": ("calls", "items", "bytes"),
    "generate_keys": ("calls", "n", "nL", "nL log n"),
    "generate_galois_keys": ("calls", "items nLL", "items nLL log n", "bytes"),
    "load_galois_keys": ("calls", "items nLL", "bytes"),
    "garble": ("calls", "steps", "items", "values", "wires"),
    "evaluate": ("calls", "steps", "items", "values", "wires"),
    "ot_send": _TRANSFERS,
    "ot_receive": _TRANSFERS,
    "transfer": ("calls", "bytes", "bytes mapped"),
    "clear_linear": ("calls", "items", "values"),
    "choose_labels": ("calls", "items", "values"),
    "spill_write": ("calls", "items"),
    "spill_read": ("calls", "items"),
}
"""The features of every operation that is modelled."""

_BY_WORD: Final = frozenset({"to_ntt", "from_ntt", "weighted_sum", "respond", "encode", "encrypt_zero", "add"})
_WORD_BITS: Final = 30
"""Primes below 2^30 take 32-bit words [protocol/rings.py]."""

MAPPED_BYTES: Final = 128 * 1024
"""glibc's default M_MMAP_THRESHOLD: what is larger is mapped afresh by each call, and pays for its page faults."""


CACHES_BYTES: Final = (2 << 20, 6 << 20, 24 << 20)
"""Of a second-level cache, and of what a core has of the last one: what inputs of a sum, or messages and labels of
transfers, are larger by is read from further away each time.

Of ramps from 4, from 2 and 6, from 1 and 6, from 2 and from 3 MiB, from 2 and 6 errs least on sets left out within the
range of the others (sums of our own kernel in three full profiles, Zen 4: 2.2 to 2.4 %; from 4 MiB alone 2.2 to 2.7 %),
and by far on other settings than from 4 MiB alone (`--seed 9`: 2.5 to 3.1 %, not 3.7 to 4.0 %). For the third see
`STREAMS`. Transfers know the first alone: beyond 6 MiB profiles measured one size only (2^20), and nothing was left to
tell by.
"""

STREAMS: Final = (8, 24)
"""Of how many products at once prefetchers and the first page tables' cache keep pace with the inputs: our kernel adds
a few hundred coefficients of every product before it goes on in the first.

Sums of our kernel on sets left out (kriging; full profiles of Zen 3, Zen 4 and an Emerald Rapids Xeon) err by 2.0, 2.4
and 3.4 % without these, by 2.0, 2.0 and 2.8 % with ramps from 8 and from 24 products, and by 2.0, 1.9 and 2.7 % with
one from 24 MiB besides. From 8 alone, the Xeon errs by 3.1 %; from 24 alone, Zen 4 by 2.2 %.
"""

WARM_BYTES: Final = 1 << 18
"""A call that reads a ciphertext and writes others finds room for all in its own cache up to this size of one."""

TOGETHER: Final = 4
"""Products of 64-bit words that a sum adds at once [kernels.inc]."""

TILE: Final = 2048
"""Oblivious transfers are extended so many at once, the last of a call as if it were whole [ot_extension.cpp]."""

ALIGNED: Final = 128
"""Rows of a message of oblivious transfers lie within vectors where a call's transfers are a multiple of this."""

TRANSFER_BYTES: Final = 32
"""One transfer: 16 bytes of the message, and a label."""


def names_of(key: Key) -> tuple[str, ...]:
    """What the entries of `features` are, for one model.

    Raises:
        UnmodelledOperation: rather than a time of zero.
    """
    names = FEATURES.get(key.operation)
    if names is None:
        raise UnmodelledOperation(f"no latency model for operation {key.operation!r}; profile and fit again")
    if _is_by_word(key):
        return tuple(f"{name}, {word}" for word in ("32-bit words", "64-bit words") for name in names)
    return names


def _is_by_word(key: Key) -> bool:
    """Either server responds by our kernels."""
    return key.operation == "respond" or (key.kernel == "ring" and key.operation in _BY_WORD)


def word_columns(key: Key) -> tuple[slice, slice] | None:
    """Which features are those of 32-bit words and which of 64-bit ones, where there are both."""
    count = len(FEATURES[key.operation])
    return (slice(0, count), slice(count, 2 * count)) if _is_by_word(key) else None


def features(handled: Handled) -> NDArray[np.float64]:
    """The feature vector of one work or sample, in the order of `names_of`.

    Raises:
        UnmodelledOperation: rather than a time of zero.
    """
    key = key_of(handled)
    names = FEATURES.get(key.operation)
    if names is None:
        raise UnmodelledOperation(f"no latency model for operation {key.operation!r}; profile and fit again")
    calls, items, n, limbs = handled.calls, handled.items, handled.n, handled.limbs
    log_n = log2(n) if n else 0.0
    tiles = calls * ceil(items / calls / TILE) if calls else 0
    mapped = max(0.0, handled.bytes - MAPPED_BYTES * calls)
    value = {
        "calls": calls,
        "n": calls * n,
        "n log n": calls * n * log_n,
        "nL": calls * n * limbs,
        "nL log n": calls * n * limbs * log_n,
        "nLL": calls * n * limbs**2,
        "nLL log n": calls * n * limbs**2 * log_n,
        "nLLL": calls * n * limbs**3,
        "nL, 32-bit words": calls * n * limbs * (handled.kernel == "ring" and handled.limb_bits <= _WORD_BITS),
        "nL cold": calls * n * limbs * (_ciphertext_bytes(handled) > WARM_BYTES),
        "nS": calls * n * _switched(handled),
        "items": items,
        "items nL": items * n * limbs,
        "items nL cold": items * n * limbs * _share_beyond(CACHES_BYTES[0], _input_bytes(handled)),
        "items nL colder": items * n * limbs * _share_beyond(CACHES_BYTES[1], _input_bytes(handled)),
        "items nL coldest": items * n * limbs * _share_beyond(CACHES_BYTES[2], _input_bytes(handled)),
        "items nL crowded": items * n * limbs * _share_beyond(STREAMS[0], _at_once(handled)),
        "items nL thronged": items * n * limbs * _share_beyond(STREAMS[1], _at_once(handled)),
        "additions nL": (items - calls) * n * limbs,
        "odd nL": _odd(handled) * n * limbs,
        "tiles": tiles,
        "tiles ragged": tiles * (items % (ALIGNED * max(1, calls)) > 0),
        "steps": calls * items / handled.values if handled.values else 0,
        "items nLL": items * n * limbs * (limbs + 1),
        "items nLL log n": items * n * limbs * (limbs + 1) * log_n,
        "items cold": items * _share_beyond(CACHES_BYTES[0], TRANSFER_BYTES * items / max(1, calls)),
        "items mapped": items * mapped / handled.bytes if handled.bytes else 0.0,
        "values": handled.values,
        "bytes": handled.bytes,
        "bytes mapped": mapped,
        "wires": handled.wires,
    }
    found = np.array([value[name] for name in names], dtype=float)
    if _is_by_word(key):
        blank = np.zeros_like(found)
        return np.concatenate((found, blank) if handled.limb_bits <= _WORD_BITS else (blank, found))
    return found


def _odd(handled: Handled) -> float:
    """Products of 64-bit words that sums of our kernel are left with when as many as go were added `TOGETHER`.

    >>> from autoprivacy.hwprofiles.machine_profile import WorkDone
    >>> _odd(WorkDone("weighted_sum", 8192, 0, calls=2, items=14, limb_bits=53, kernel="ring"))
    6.0
    """
    if handled.kernel != "ring" or handled.limb_bits <= _WORD_BITS:
        return 0.0
    calls = max(1, handled.calls)
    fewer, longer = divmod(handled.items, calls)
    return float((calls - longer) * (fewer % TOGETHER) + longer * ((fewer + 1) % TOGETHER))


def _ciphertext_bytes(handled: Handled) -> int:
    """Two polynomials in words."""
    word = 4 if handled.kernel == "ring" and handled.limb_bits <= _WORD_BITS else 8
    return 2 * word * handled.n * handled.limbs


def _input_bytes(handled: Handled) -> float:
    """Ciphertexts that one sum reads."""
    return _ciphertext_bytes(handled) * handled.items / max(1, handled.calls)


def _at_once(handled: Handled) -> float:
    """Products that one sum goes through at once: all by our kernel; SEAL adds whole ones, one after the other."""
    return handled.items / max(1, handled.calls) if handled.kernel == "ring" else 1.0


def _share_beyond(room: float, needed: float) -> float:
    """How much of what is needed finds no room.

    >>> _share_beyond(8, 32)
    0.75
    """
    return max(0.0, 1 - room / max(1.0, needed))


def _switched(handled: Handled) -> int:
    """Limbs left after each limb that is switched away: all but `kept` by a response, one by `switch_limb`.

    >>> from autoprivacy.hwprofiles.machine_profile import WorkDone
    >>> _switched(WorkDone("respond", 8192, 0, 1, 0, limbs=4, kept=1))
    6
    """
    kept = handled.limbs - 1 if handled.operation == "switch_limb" else handled.kept or handled.limbs
    return sum(range(kept, handled.limbs))


DESCRIPTION: Final = (
    "log2 n",
    "limbs",
    "limb_bits",
    "q_bits",
    "t_bits",
    "kept",
    "special",
    "log2 items a call",
    "log2 values a call",
    "log2 bytes a call",
    "log2 wires a call",
)
"""What learned models see of one call; sizes by their logarithms."""


def description(handled: Handled) -> NDArray[np.float64]:
    """One call of a work or a sample as learned models see it, in the order of `DESCRIPTION`."""
    calls = max(1, handled.calls)
    sizes = (handled.items, handled.values, handled.bytes, handled.wires)
    return np.array(
        [
            log2(handled.n) if handled.n else 0.0,
            handled.limbs,
            handled.limb_bits,
            handled.q_bits,
            handled.t_bits,
            handled.kept,
            handled.special,
            *(log2(1 + size / calls) for size in sizes),
        ]
    )


def place(handled: Handled) -> NDArray[np.float64]:
    """Where one call lies among others, in octaves: ring degree, limbs, sizes; word, kept limbs and prime as far."""
    calls = max(1, handled.calls)
    return np.array(
        [
            log2(handled.n) if handled.n else 0.0,
            log2(handled.limbs),
            2.0 * (handled.limb_bits <= _WORD_BITS),
            handled.kept,
            log2(1 + handled.items / calls),
            log2(1 + handled.values / calls),
            log2(1 + handled.wires / calls),
        ]
    )


def matrix(handled: Iterable[Handled]) -> NDArray[np.float64]:
    """Feature vectors as rows."""
    return np.array([features(each) for each in handled])
