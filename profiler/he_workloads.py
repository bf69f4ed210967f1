"""HE operations: what the two interpreters of a run call, and the parts that they are made of.

Sets without a special prime serve packing `coefficients` (our kernels at the server), those with one `slots` (SEAL's).
"""

from collections.abc import Iterator
from functools import partial
from itertools import cycle
from typing import Any, Final, NamedTuple

import numpy as np

from autoprivacy.hwprofiles.samples import WorkDone
from autoprivacy.profiler.harness import Call, Workload
from autoprivacy.profiler.he_parties import STEPS, GridSet, HeParties, Make, parties
from autoprivacy.protocol.rings import word_type
from autoprivacy.protocol.seal_keys import (
    ClientKeys,
    ServerKeys,
    galois_object_bytes,
    public_message_bytes,
)
from autoprivacy.protocol.wire import pack_ciphertext, unpack_ciphertext

CORE: Final = (
    GridSet(1024, (26,)),
    GridSet(2048, (53,)),
    GridSet(4096, (53,)),
    GridSet(4096, (36, 36), special_bits=34),
    GridSet(8192, (43, 43, 43), special_bits=44),
)
"""Sets on which all operations of an inference are timed in every profile."""

SPARSE: Final = (
    GridSet(2048, (26,)),
    GridSet(4096, (53, 53)),
    GridSet(8192, (53, 53, 53)),
    GridSet(16384, (54,) * 4),
    GridSet(16384, (54,) * 4, special_bits=54),
)
"""Sets on which every profile times each operation once."""

PARTS: Final = CORE[3]
"""A set whose parts (encoding, serialisation, ...) every profile times."""

KEYS: Final = CORE[4]
"""A set whose keys and SEAL's own products every profile times besides."""

STANDARD: Final = (
    GridSet(1024, (26,), 12),
    GridSet(4096, (26,)),
    GridSet(2048, (53,), 30),
    GridSet(4096, (53,), 30),
    GridSet(4096, (36, 36), 30),
    GridSet(8192, (54,), 20),
    GridSet(8192, (36, 36), 20),
    GridSet(8192, (26,) * 4),
    GridSet(8192, (54,) * 3, 20, 52),
    GridSet(8192, (43, 43), 20, 43),
    GridSet(8192, (43, 43, 43), 20, 44, kept=2),
    GridSet(16384, (54,) * 2),
    GridSet(16384, (54,) * 7, 20, 52),
    GridSet(4096, (26,) * 3),
    GridSet(16384, (26,) * 3),
    GridSet(16384, (43,) * 5),
    GridSet(16384, (54,) * 2, 20, 54),
    GridSet(16384, (30,) * 6, 20, 40),
)
"""Sets that `standard` adds."""

FULL: Final = (
    GridSet(1024, (25,), 10),
    GridSet(2048, (36,), 16),
    GridSet(2048, (26, 26), 16),
    GridSet(4096, (35, 35, 35), 20),
    GridSet(8192, (30,) * 6, 20),
    GridSet(8192, (54,) * 3, 38, 52),
    GridSet(8192, (43,) * 4, 30, 42, kept=4),
    GridSet(16384, (54,) * 7, 30),
    GridSet(16384, (28,) * 6),
    GridSet(16384, (36,) * 6, 20, 54),
    GridSet(32768, (54,) * 4, 20),
    GridSet(32768, (54,) * 3, 20, 54),
)
"""Sets that `full` adds."""


class Sizes(NamedTuple):
    """What is measured of one set: products of a sum, halves of its coefficients that are sent (0: one), all calls."""

    products: tuple[int, ...]
    halves_sent: tuple[int, ...]
    all_calls: bool = False


ONE: Final = Sizes((32,), (1,))
TWO: Final = Sizes((2, 32), (1,))
ENDS: Final = Sizes((1, 64), (0, 2), all_calls=True)
ALL: Final = Sizes((1, 8, 64), (0, 1, 2), all_calls=True)
BETWEEN: Final = (3, 6, 11, 16, 23, 32, 45)
"""Products of sums that `full` adds: where inputs outgrow caches and prefetchers, times turn; four of them are no
multiples of 4."""


def he_workloads(depth: str) -> Iterator[Workload]:
    """Everything of a depth; the core comes first, and is the same at any depth."""
    yield from _core()
    if depth != "quick":
        yield from _more()
    if depth == "full":
        yield from _everything()


def _core() -> Iterator[Workload]:
    for grid in CORE:
        yield from _inference(grid, ENDS)
    for grid in SPARSE:
        yield from _inference(grid, ONE)
    for grid in CORE:
        yield from _session(grid)
    yield from _parts(PARTS)
    yield from _keys(KEYS)
    for grid in (SPARSE[0], *SPARSE[2:4]):
        yield from _levels(grid)


def _more() -> Iterator[Workload]:
    for grid in (*CORE, *SPARSE):
        yield from _inference(grid, ALL)
    for grid in STANDARD:
        yield from _inference(grid, TWO)
    for grid in (*CORE, *SPARSE, *STANDARD):
        yield from _levels(grid)
    for grid in CORE:
        yield _weighted_sum(grid, 8, "hot")
    for grid in (CORE[0], KEYS, *SPARSE[-2:]):
        yield from _parts(grid)
    yield from _keys(PARTS)
    yield from _keys(SPARSE[-1])


def _everything() -> Iterator[Workload]:
    for grid in (*CORE, *SPARSE, *STANDARD, *FULL):
        yield from _inference(grid, ALL)
        yield from _levels(grid)
        yield from _parts(grid)
        yield from _keys(grid)
        yield _weighted_sum(grid, 8, "hot")
        for products in BETWEEN:
            yield _weighted_sum(grid, products, "streamed")


def _workload(grid: GridSet, work: WorkDone, make: Make, *, seal: bool = False) -> Workload:
    return Workload(work, lambda: make(parties(grid)), "" if seal else grid.code_path)


def _inference(grid: GridSet, sizes: Sizes) -> Iterator[Workload]:
    """What an inference calls. Our client is SEAL's in both packings."""
    n, slots = grid.n, grid.packing == "slots"
    yield he_workload(grid, "encrypt")
    if sizes.all_calls:
        yield he_workload(grid, "receive")
    yield he_workload(grid, "receive_add_share")
    yield he_workload(grid, "to_ntt")
    yield he_workload(grid, "from_ntt")
    for products in sizes.products:
        yield he_workload(grid, "weighted_sum", products)
    if slots:
        yield he_workload(grid, "rotate")
        yield he_workload(grid, "add")
        if sizes.all_calls:
            yield he_workload(grid, "swap_rows")
    for halves in (1,) if slots else sizes.halves_sent:
        sent = max(1, halves * n // 2)
        yield he_workload(grid, "respond", sent)
        yield he_workload(grid, "decrypt", sent)


def he_workload(grid: GridSet, operation: str, items: int = 0) -> Workload:
    """One operation of an inference at any setting: `items` are products, or coefficients that are sent."""
    if operation == "weighted_sum":
        return _weighted_sum(grid, items, "streamed")
    if operation in {"respond", "decrypt"}:
        size = grid.response_bytes(grid.n if grid.packing == "slots" else items)
        if operation == "decrypt":
            work = grid.work("decrypt", items, kept=grid.kept, bytes=size)
            return _workload(grid, work, partial(_decrypt, sent=items), seal=True)
        work = grid.work("respond", items, kept=grid.kept, privacy=grid.privacy.kind, bytes=size)
        return _workload(grid, work, partial(_respond, sent=items))
    make, sends, seal = _SIMPLE[operation]
    return _workload(grid, grid.work(operation, bytes=grid.request_bytes if sends else 0), make, seal=seal)


def _weighted_sum(grid: GridSet, products: int, state: str) -> Workload:
    work = grid.work("weighted_sum", products, state=state)
    return _workload(grid, work, partial(_sum_of, products=products, streamed=state == "streamed"))


def _levels(grid: GridSet) -> Iterator[Workload]:
    """Parts of a response that both servers make in the same way."""
    yield _workload(grid, grid.work("encrypt_zero"), lambda p: p.server_keys.zero_encryptor.words)
    if len(grid.limb_bits) > 1:
        yield _workload(grid, grid.work("switch_limb"), _switch_limb)


def _session(grid: GridSet) -> Iterator[Workload]:
    """What every session does once: weights and keys."""
    yield he_workload(grid, "encode")
    yield he_workload(grid, "generate_keys")


def _parts(grid: GridSet) -> Iterator[Workload]:
    """What an inference's calls are made of."""
    words, request = 2 * grid.n * len(grid.limb_bits), grid.request_bytes
    yield from _session(grid)
    yield _workload(grid, grid.work("decode"), _decode, seal=True)
    yield _workload(grid, grid.work("serialise", words, bytes=8 * words), _serialise, seal=True)
    yield _workload(grid, grid.work("deserialise", words, bytes=8 * words), _deserialise, seal=True)
    yield _workload(grid, grid.work("pack", words, bytes=request), _pack, seal=True)
    yield _workload(grid, grid.work("unpack", words, bytes=request), _unpack, seal=True)


def _keys(grid: GridSet) -> Iterator[Workload]:
    """What is done once a session, and products of SEAL's own."""
    he_set = grid.he_set
    if grid.packing == "coefficients":
        return
    size = public_message_bytes(he_set, STEPS)
    memory = galois_object_bytes(he_set, STEPS)
    steps = len(STEPS)
    yield _workload(grid, grid.work("multiply_plain", state="hot"), _multiply_plain, seal=True)
    yield _workload(grid, grid.work("multiply_relinearise"), _multiply_relinearise, seal=True)
    yield _workload(
        grid,
        grid.work("generate_galois_keys", steps, bytes=size),
        lambda p: partial(p.keys.public_message, STEPS),
        seal=True,
    )
    yield _workload(
        grid,
        grid.work("load_galois_keys", steps, bytes=memory),
        lambda p: partial(ServerKeys, p.he_set, p.public, STEPS),
        seal=True,
    )


def _encrypt(p: HeParties) -> Call:
    return partial(p.client.encrypt, p.values)


def _receive(p: HeParties, *, with_share: bool) -> Call:
    return partial(p.server.receive, p.request, p.values if with_share else None)


def _sum_of(p: HeParties, *, products: int, streamed: bool) -> Call:
    inputs = p.inputs(products)
    if not streamed:
        weights = p.pool(1)[:products] if p.grid.packing == "coefficients" else [p.weight] * products
        return partial(p.server.weighted_sum, inputs, weights)
    pool = p.pool(products)
    rows = cycle([pool[i : i + products] for i in range(0, len(pool) - products + 1, products)])
    return lambda: p.server.weighted_sum(inputs, next(rows))


def _respond(p: HeParties, *, sent: int) -> Call:
    return partial(p.server.respond, p.total, np.arange(sent))


def _decrypt(p: HeParties, *, sent: int) -> Call:
    positions = np.arange(sent)
    response, _ = p.server.respond(p.total, positions)
    return partial(p.client.decrypt, response, positions)


def _switch_limb(p: HeParties) -> Call:
    from autoprivacy.protocol.rings import ring_of

    words = p.words.astype(word_type(p.he_set.limbs), copy=False)
    return partial(ring_of(p.grid.n, p.he_set.limbs).drop_limb, words)


def _decode(p: HeParties) -> Call:
    return partial(p.context.decode, p.context.encode(p.values, p.grid.packing), p.grid.packing)


def _seal_ciphertext(p: HeParties) -> Any:  # noqa: ANN401 - SEAL ships no types
    return p.context.ciphertext(p.words)


def _serialise(p: HeParties) -> Call:
    return partial(p.context.words, _seal_ciphertext(p))


def _deserialise(p: HeParties) -> Call:
    return partial(p.context.ciphertext, p.words)


def _pack(p: HeParties) -> Call:
    return partial(pack_ciphertext, p.words, p.he_set.limbs)


def _unpack(p: HeParties) -> Call:
    return partial(unpack_ciphertext, p.request, p.grid.n, p.he_set.limbs)


def _multiply_plain(p: HeParties) -> Call:
    return partial(p.context.evaluator.multiply_plain, p.transformed[0], p.weight)


def _multiply_relinearise(p: HeParties) -> Call:
    seal, context = p.context.seal, p.context
    keys = seal.RelinKeys()
    seal.KeyGenerator(context.context, p.keys.secret_for(context)).create_relin_keys(keys)
    left, right = p.received, p.total

    def call() -> object:
        product = context.evaluator.multiply(left, right)
        context.evaluator.relinearize_inplace(product, keys)
        return product

    return call


_SIMPLE: Final[dict[str, tuple[Make, bool, bool]]] = {
    "encrypt": (_encrypt, True, True),
    "receive": (partial(_receive, with_share=False), True, False),
    "receive_add_share": (partial(_receive, with_share=True), True, False),
    "to_ntt": (lambda p: partial(p.server.to_ntt, p.received), False, False),
    "from_ntt": (lambda p: partial(p.server.from_ntt, p.transformed[0]), False, False),
    "rotate": (lambda p: partial(p.server.rotate, p.received, 1), False, False),
    "swap_rows": (lambda p: partial(p.server.swap_rows, p.received), False, False),
    "add": (lambda p: partial(p.server.add, [p.received, p.total]), False, False),
    "encode": (lambda p: partial(p.server.encode_weights, p.small), False, False),
    "generate_keys": (lambda p: partial(ClientKeys.generate, p.he_set), False, True),
}
"""Operations without items: the call, whether it makes or takes a request, whether it is SEAL's in both packings."""
