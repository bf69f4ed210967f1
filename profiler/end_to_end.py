"""What two processes reach over loopback, against the lesser of what their processors and the link allow."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from autoprivacy.common.records import record
from autoprivacy.hwprofiles.link_profile import LinkSummary
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.hwprofiles.samples import LINKED_CIRCUITS, LINKED_TRANSFERS, Sample
from autoprivacy.protocol.oblivious_transfer import BASE_TRANSFERS

BITS: Final = 8


@record
class EndToEnd:
    """One batch between two processes: quiet seconds, and the least that either bound allows.

    `processor_s` is the work of the busier party, as measured in memory; `link_s` its bytes at the link's best rates;
    `share` the larger of both over `quiet_s`: 1 would be all that the machine can do.
    """

    operation: str
    items: int
    values: int
    quiet_s: float
    processor_s: float
    link_s: float
    share: float


def end_to_end(profile: MachineProfile) -> tuple[EndToEnd, ...]:
    """Every batch that a profile measured end to end; none where it has no loopback."""
    if profile.loopback is None:
        return ()
    link, alone = profile.loopback.header.summary, [each for each in profile.samples if each.processes == 1]
    found = []
    for sample in alone:
        if sample.operation == LINKED_TRANSFERS:
            found.append(_bounded(sample, _transfers(sample.items, alone), (sample.bytes, 0), link))
        elif sample.operation == LINKED_CIRCUITS:
            garble, evaluate = (_same(sample, each, alone) for each in ("garble", "evaluate"))
            if garble is not None and evaluate is not None:
                columns = sample.bytes - garble.bytes
                send_s, receive_s = _transfers(BITS * columns // BASE_TRANSFERS, alone)
                parties = (send_s + garble.quiet_s, receive_s + evaluate.quiet_s)
                found.append(_bounded(sample, parties, (columns, garble.bytes), link))
    return tuple(found)


def _same(sample: Sample, operation: str, among: Sequence[Sample]) -> Sample | None:
    """The same batch, one side in memory, on the same code path."""
    for each in among:
        wanted = replace(sample.work, operation=operation, bytes=each.bytes)
        if each.work == wanted and each.code_path == sample.code_path:
            return each
    return None


def _transfers(count: int, among: Sequence[Sample]) -> tuple[float, float]:
    """Quiet seconds of the server's and of the client's side of so many transfers, between counts that were timed."""
    found = []
    for operation in ("ot_send", "ot_receive"):
        known = sorted((each.items, each.quiet_s) for each in among if each.operation == operation)
        counts, seconds = zip(*known, strict=True)
        beyond = max(1.0, count / counts[-1])
        found.append(beyond * float(np.interp(count, counts, seconds)))
    return found[0], found[1]


def _bounded(
    sample: Sample, parties: tuple[float, float], bytes_up_down: tuple[int, int], link: LinkSummary
) -> EndToEnd:
    up, down = bytes_up_down
    link_s = up / link.rate_up_bytes_per_s + down / link.rate_down_bytes_per_s
    return EndToEnd(
        operation=sample.operation,
        items=sample.items,
        values=sample.values,
        quiet_s=sample.quiet_s,
        processor_s=max(parties),
        link_s=link_s,
        share=max(*parties, link_s) / sample.quiet_s,
    )
