"""Rows of what was measured: one operation at one setting, one whole layer, one slow-down.

A setting (`WorkDone`, the columns that `protocol.plan.Work` has too):

| column | meaning |
|---|---|
| operation | the interface call that was timed |
| n | ring degree; 0 where there is none |
| q_bits | bits of the modulus of the ciphertexts that the call works on, without the special prime |
| calls | calls that one timing covers (a transfer is answered by a second, empty one) |
| items | what they handled: products, coefficients, steps, AND gates, transfers or bytes |
| values | tensor values, i.e. circuit instances, else 0 |
| limbs | data limbs of that modulus; 1 where there is none |
| limb_bits | bits of its widest limb: 32-bit words below 31; 0 where there is none |
| t_bits | bits of the plaintext modulus, 0 where it plays no part |
| special | 1 where the set has a special prime |
| kept | data limbs that a response keeps |
| kernel | "ring" for a set of packing `coefficients` (our kernels at the server), "seal" for `slots`, "" elsewhere |
| privacy | of responses: none, rerandomise, uniform or flood |
| state | of operands: "streamed" from memory, as weights in an inference, or "hot" in the cache |
| bytes | bytes that the call makes or takes, as on the wire; of keys and ciphertexts also in memory |
| wires | input and output bits of all circuit instances |

What was measured at it (`Measured`):

| column | meaning |
|---|---|
| processes | how many processes did the same at once |
| code_path | the instruction set: avx512, vaes512, ...; "" for SEAL, whose build decides |
| blocks | timed blocks of at least 4 ms (or one call, where that is longer) |
| quiet_s, _low_s, _high_s | 5 % quantile over blocks (spells count less): seconds of a timing, with a 95 % interval |
| typical_s, _low_s, _high_s | median over blocks, each over the reference's slow-down beside it; >= quiet_s |
| seen_median_s, seen_p95_s | median and 95 % quantile over blocks as they were seen, the machine's drift included |
| dispersion | interquartile range over the median, of blocks as they were seen |
| outliers | blocks above the third quartile by more than 1.5 interquartile ranges |
"""

from dataclasses import asdict
from typing import Final

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record

LINKED_CIRCUITS: Final = "linked_circuits"
"""Batches of garbled circuits end to end between two processes over loopback: transfers, tables, evaluation."""

LINKED_TRANSFERS: Final = "linked_transfers"
"""Oblivious transfers, likewise."""

END_TO_END: Final = frozenset({LINKED_CIRCUITS, LINKED_TRANSFERS})
"""Made of other operations, and no part of a plan: what those are compared with."""


@record
class WorkDone:
    """What was done of one operation, in total; see the first table above."""

    operation: str
    n: int
    q_bits: int
    calls: int
    items: int
    values: int = 0
    limbs: int = 1
    limb_bits: int = 0
    t_bits: int = 0
    special: int = 0
    kept: int = 0
    kernel: str = ""
    privacy: str = ""
    state: str = ""
    bytes: int = 0
    wires: int = 0


@record
class Measured:
    """Statistics of the blocks of one setting; see the second table above."""

    blocks: int
    quiet_s: float
    quiet_low_s: float
    quiet_high_s: float
    typical_s: float
    typical_low_s: float
    typical_high_s: float
    seen_median_s: float
    seen_p95_s: float
    dispersion: float
    outliers: int


@record
class Sample:
    """One operation at one setting, measured."""

    operation: str
    kernel: str
    n: int
    limbs: int
    limb_bits: int
    q_bits: int
    t_bits: int
    special: int
    kept: int
    privacy: str
    state: str
    calls: int
    items: int
    values: int
    bytes: int
    wires: int
    processes: int
    code_path: str
    blocks: int
    quiet_s: float
    quiet_low_s: float
    quiet_high_s: float
    typical_s: float
    typical_low_s: float
    typical_high_s: float
    seen_median_s: float
    seen_p95_s: float
    dispersion: float
    outliers: int

    @classmethod
    def of(cls, work: WorkDone, measured: Measured, *, processes: int = 1, code_path: str = "") -> "Sample":
        """`work`, measured."""
        return cls(**asdict(work), **asdict(measured), processes=processes, code_path=code_path)

    @property
    def work(self) -> WorkDone:
        """The setting alone."""
        return WorkDone(**{name: getattr(self, name) for name in WorkDone.__dataclass_fields__})

    @property
    def key(self) -> tuple[WorkDone, int, str]:
        """What tells two samples of a profile apart."""
        return self.work, self.processes, self.code_path


@record
class Seconds:
    """Quiet and typical seconds of the same thing."""

    quiet_s: float
    typical_s: float


@record
class MeasuredRun:
    """One network, run privately between two processes of this machine.

    `confirmed` marks what a confirmation measured; the others are the profile's own small networks. `round_trip_s` is
    that of the emulated link between them, 0 over loopback.
    """

    name: str
    layers: int
    work: tuple[WorkDone, ...]
    components: dict[str, Seconds]
    latency: Seconds
    confirmed: bool = False
    round_trip_s: float = 0.0


@record
class LayerShape:
    """The public shape of a linear layer (`protocol.linear_shape.LinearShape`)."""

    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int


@record
class ChosenSet:
    """What a layer policy chose, as far as times depend on it; `tile` in the policy's own words."""

    packing: str
    n: int
    limbs: tuple[int, ...]
    special: int | None
    t: int
    weight_bits: int
    activation_bits: int
    response_limbs: int
    dropped_c0: int
    dropped_c1: int
    circuit_privacy: str
    tile: str


@record
class MeasuredLayer:
    """One linear layer, and the nonlinear ones after it, in a whole run between two processes.

    `components`: client_he_s, server_he_s, garble_s, evaluate_s, client_ot_s, server_ot_s,
    link_s (the client waits in its channel, and the server does not work) and other_s (the client does nothing of all
    this); what garbling and evaluation do at once is in both. `confirmed`, `round_trip_s` as its run's.
    """

    run: str
    name: str
    shape: LayerShape
    chosen: ChosenSet
    work: tuple[WorkDone, ...]
    inferences: int
    bytes_up: int
    bytes_down: int
    components: dict[str, Seconds]
    confirmed: bool = False
    round_trip_s: float = 0.0


@record
class ParallelSample:
    """How many times as long an operation takes when `workers` processes do it at once, against one alone.

    Ratios of quiet and of typical times, with a 95 % interval of the typical one.
    """

    operation: str
    kernel: str
    n: int
    limbs: int
    q_bits: int
    items: int
    workers: int
    blocks: int
    quiet_slowdown: float
    typical_slowdown: float
    typical_low: float
    typical_high: float


def check_times(quiet_s: float, typical_s: float, where: str) -> None:
    """Refuse times that are not 0 < quiet <= typical.

    Raises:
        BadInput: with both.
    """
    if not 0 < quiet_s <= typical_s:
        raise BadInput(f"{where}: quiet_s = {quiet_s} must be above 0 and at most typical_s = {typical_s}")


def check_sample(sample: Sample, where: str) -> None:
    """Refuse a sample that is no measurement.

    Raises:
        BadInput: naming what is wrong.
    """
    check_times(sample.quiet_s, sample.typical_s, where)
    if not sample.blocks:
        raise BadInput(f"{where}: blocks = 0; a sample needs at least one timed block")
    if not (
        sample.quiet_low_s <= sample.quiet_s <= sample.quiet_high_s
        and sample.typical_low_s <= sample.typical_s <= sample.typical_high_s
    ):
        raise BadInput(f"{where}: an interval does not hold its value")
