"""What one garbled layer does, from how many channels drop how many bits: the plan's work without its circuits.

Equal to `protocol.plan` for every step (tests/agent/test_surrogate.py); fast enough for tables.
"""

from collections import Counter
from functools import lru_cache
from math import prod

from autoprivacy.agent.coupling import Requantised, Site
from autoprivacy.networks.integer_network import Image
from autoprivacy.protocol._native import STRIPE
from autoprivacy.protocol.agreement import AgreedNonlinear, Windows
from autoprivacy.protocol.garbling import LABEL_BYTES, PIECE_BYTES, START_BYTES, TABLE_BYTES
from autoprivacy.protocol.nonlinear_circuits import Nonlinear, width_of
from autoprivacy.protocol.nonlinear_layer import windows_of
from autoprivacy.protocol.oblivious_transfer import extension_bytes
from autoprivacy.protocol.plan import Work
from autoprivacy.protocol.transport import HEADER_BYTES


@lru_cache(maxsize=1024)
def window_sizes(shape: Image, windows: Windows | None) -> tuple[tuple[int, int], ...]:
    """How many results of one channel take the greatest of how many values: (values, results)."""
    if windows is None:
        return ((1, prod(shape[1:])),)
    step = AgreedNonlinear(
        "", "", (1, *shape[1:]), (0,), 1, relu=True, maximum=None, windows=windows, modulus_in=2, moduli_out=(2,)
    )
    sources, _ = windows_of(step)
    return tuple(sorted(Counter((sources >= 0).sum(axis=0).tolist()).items()))


def circuit_work(site: Site, rule: Requantised, modulus_in: int, moduli_out: tuple[int, ...]) -> tuple[Work, ...]:
    """The work of a site under a rule, its shares modulo `modulus_in` and made modulo each of `moduli_out`."""
    width, out_bits = width_of(modulus_in), sum(map(width_of, moduli_out))
    instances: Counter[tuple[int, int]] = Counter()
    for shift, channels in rule.shifts:
        for size, results in window_sizes(site.shape, site.windows):
            instances[min(shift, width - 1), size] += channels * results
    garbled, evaluated, transfers, table_bytes = [], [], 0, 0
    for (shift, size), count in sorted(instances.items()):
        gates = Nonlinear(modulus_in, shift, rule.bits, moduli_out, site.relu, rule.maximum, size).and_gates
        server, client = width * size + out_bits, width * size
        sent = START_BYTES + _piece_bytes(gates, server, out_bits, count)
        wires = count * (client + server + out_bits)
        garbled.append(Work("garble", 0, 0, 1, gates * count, count, bytes=sent, wires=wires))
        evaluated.append(Work("evaluate", 0, 0, 1, gates * count, count, bytes=sent, wires=wires))
        transfers += client * count
        table_bytes += sent
    columns = extension_bytes(transfers)
    return (
        Work("ot_receive", 0, 0, calls=1, items=transfers, bytes=columns),
        transfer("up", HEADER_BYTES + columns),
        Work("ot_send", 0, 0, calls=1, items=transfers, bytes=columns),
        *garbled,
        transfer("down", HEADER_BYTES + table_bytes),
        *evaluated,
    )


def _piece_bytes(gates: int, server_bits: int, out_bits: int, instances: int) -> int:
    """Tables, the server's labels and colours, as they are cut into pieces."""
    stripe_bytes = TABLE_BYTES * max(1, gates) * STRIPE
    piece = STRIPE * max(1, PIECE_BYTES // stripe_bytes)
    whole, rest = divmod(instances, piece)
    colours = whole * -(-out_bits * piece // 8) + -(-out_bits * rest // 8)
    return (TABLE_BYTES * gates + LABEL_BYTES * server_bits) * instances + colours


def transfer(direction: str, count: int) -> Work:
    """One message of so many bytes, `up` to the server or `down`."""
    return Work("transfer", 0, 0, calls=1, items=count, state=direction, bytes=count)
