"""What one garbled layer does, from how many channels drop how many bits: the plan's work without its circuits.

Equal to `protocol.plan` for every step (tests/agent/test_surrogate.py); fast enough for tables.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from autoprivacy.agent.coupling import Requantised, Site
from autoprivacy.networks.integer_network import Image
from autoprivacy.protocol._native import STRIPE
from autoprivacy.protocol.agreement import AgreedNonlinear, Windows
from autoprivacy.protocol.garbling import LABEL_BYTES, PIECE_BYTES, START_BYTES, TABLE_BYTES
from autoprivacy.protocol.nonlinear_circuits import Nonlinear, Party, width_of
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


@dataclass(frozen=True, slots=True)
class _Batch:
    """Equal circuits: how many, AND gates of one, and bits that enter it from either party and that leave it."""

    count: int
    gates: int
    client_bits: int
    server_bits: int
    out_bits: int

    @property
    def wires(self) -> int:
        """Input and output bits of all."""
        return self.count * (self.client_bits + self.server_bits + self.out_bits)


def _batches(
    site: Site, rule: Requantised, modulus_in: int, moduli_out: tuple[int, ...], masked_by: Party
) -> list[_Batch]:
    width, out_bits = width_of(modulus_in), sum(map(width_of, moduli_out))
    instances: Counter[tuple[int, int]] = Counter()
    for shift, channels in rule.shifts:
        for size, results in window_sizes(site.shape, site.windows):
            instances[min(shift, width - 1), size] += channels * results
    found = []
    for (shift, size), count in sorted(instances.items()):
        gates = Nonlinear(modulus_in, shift, rule.bits, moduli_out, site.relu, rule.maximum, size).and_gates
        masks = (0, out_bits) if masked_by == "server" else (out_bits, 0)
        found.append(_Batch(count, gates, width * size + masks[0], width * size + masks[1], out_bits))
    return found


def circuit_work(site: Site, rule: Requantised, modulus_in: int, moduli_out: tuple[int, ...]) -> tuple[Work, ...]:
    """The work of a site under a rule, its shares modulo `modulus_in` and made modulo each of `moduli_out`."""
    garbled, evaluated, transfers, table_bytes = [], [], 0, 0
    for batch in _batches(site, rule, modulus_in, moduli_out, "server"):
        sent = START_BYTES + _piece_bytes(batch.gates, batch.server_bits, batch.out_bits, batch.count)
        items = batch.gates * batch.count
        garbled.append(Work("garble", 0, 0, 1, items, batch.count, bytes=sent, wires=batch.wires))
        evaluated.append(Work("evaluate", 0, 0, 1, items, batch.count, bytes=sent, wires=batch.wires))
        transfers += batch.client_bits * batch.count
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


def prepared_work(site: Site, rule: Requantised, modulus_in: int, moduli_out: tuple[int, ...]) -> tuple[Work, ...]:
    """What schedule `preprocessed` leaves of it online: the client masks, and tables were sent ahead."""
    chosen, evaluated, heads, labels, kept, colours = [], [], 0, 0, 0, 0
    for batch in _batches(site, rule, modulus_in, moduli_out, "client"):
        sent = LABEL_BYTES * batch.server_bits * batch.count
        heads += _piece_bytes(0, batch.server_bits, batch.out_bits, batch.count, cut_for=batch.gates)
        kept += LABEL_BYTES * batch.client_bits * batch.count + START_BYTES + TABLE_BYTES * batch.gates * batch.count
        labels += sent
        colours += batch.out_bits * batch.count
        chosen.append(Work("choose_labels", 0, 0, 1, batch.count * batch.server_bits, batch.count))
        evaluated.append(
            Work("evaluate", 0, 0, 1, batch.gates * batch.count, batch.count, bytes=sent, wires=batch.wires)
        )
    return (
        spill_read("server", heads),
        *chosen,
        transfer("down", HEADER_BYTES + labels),
        spill_read("client", kept),
        *evaluated,
        transfer("up", HEADER_BYTES + -(-colours // 8)),
    )


def spill_read(party: str, count: int) -> Work:
    """So many bytes that a party kept between offline and online."""
    return Work("spill_read", 0, 0, calls=1, items=count, state=party)


def _piece_bytes(gates: int, server_bits: int, out_bits: int, instances: int, *, cut_for: int | None = None) -> int:
    """Tables of so many gates, the server's labels and colours, cut into pieces (for tables of `cut_for` gates)."""
    stripe_bytes = TABLE_BYTES * max(1, gates if cut_for is None else cut_for) * STRIPE
    piece = STRIPE * max(1, PIECE_BYTES // stripe_bytes)
    whole, rest = divmod(instances, piece)
    colours = whole * -(-out_bits * piece // 8) + -(-out_bits * rest // 8)
    return (TABLE_BYTES * gates + LABEL_BYTES * server_bits) * instances + colours


def transfer(direction: str, count: int) -> Work:
    """One message of so many bytes, `up` to the server or `down`."""
    return Work("transfer", 0, 0, calls=1, items=count, state=direction, bytes=count)
