"""What one garbled layer does, from how many channels drop how many bits: the plan's work without its circuits.

Equal to `protocol.plan` for every step (tests/agent/test_surrogate.py); fast enough for tables.
"""

from collections import Counter
from functools import lru_cache
from math import prod


from autoprivacy.agent.coupling import Requantised, Site
from autoprivacy.networks.integer_network import Image
from autoprivacy.protocol.agreement import AgreedNonlinear, Windows
from autoprivacy.protocol.garbling import LABEL_BYTES, START_BYTES, TABLE_BYTES
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
    step = AgreedNonlinear("", "", (1, *shape[1:]), (0,), 1, True, None, windows, 2, (2,))
    sources, _ = windows_of(step)
    return tuple(sorted(Counter((sources >= 0).sum(axis=0).tolist()).items()))


def circuit_work(site: Site, rule: Requantised, modulus_in: int, moduli_out: tuple[int, ...]) -> tuple[Work, ...]:
    """The work of a site under a rule, its shares modulo `modulus_in` and made modulo each of `moduli_out`."""
    width = width_of(modulus_in)
    instances: Counter[tuple[int, int]] = Counter()
    for shift, channels in rule.shifts:
        for size, results in window_sizes(site.shape, site.windows):
            instances[min(shift, width - 1), size] += channels * results
    out_bits = sum(map(width_of, moduli_out))
    circuits, transfers, table_bytes = [], 0, 0
    for (shift, size), count in sorted(instances.items()):
        gates = Nonlinear(modulus_in, shift, rule.bits, moduli_out, site.relu, rule.maximum, size).and_gates
        circuits.append((gates * count, count))
        transfers += width * size * count
        labels = LABEL_BYTES * (width * size + out_bits)
        table_bytes += START_BYTES + (TABLE_BYTES * gates + labels) * count + -(-out_bits * count // 8)
    return (
        Work("ot_receive", 0, 0, calls=1, items=transfers),
        Work("transfer", 0, 0, calls=1, items=HEADER_BYTES + extension_bytes(transfers)),
        Work("ot_send", 0, 0, calls=1, items=transfers),
        *(Work("garble", 0, 0, 1, gates, count) for gates, count in circuits),
        Work("transfer", 0, 0, calls=1, items=HEADER_BYTES + table_bytes),
        *(Work("evaluate", 0, 0, 1, gates, count) for gates, count in circuits),
    )


