"""A link profile: what lies between two machines, measured or declared.

`link.json` says which link, how it was come by, and its summary; `transfers.csv` holds what was timed.
"""

from pathlib import Path
from typing import Final, Literal

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import load, record, save
from autoprivacy.hwprofiles.tables import read_table, write_table

LINK_SCHEMA_VERSION: Final = 1
DIRECTIONS: Final = ("up", "down", "both", "round_trip", "circuits")


@record
class TransferSample:
    """One message size in one direction.

    | column | meaning |
    |---|---|
    | direction | up (client to server), down, both (ways at once), round_trip (a frame, and its echo), circuits |
    | message_bytes | content of one frame; of `circuits`: a garbled batch with its oblivious transfers, both ways |
    | messages | frames that one trial sends in a row |
    | trials | how often it was timed |
    | quiet_s, typical_s | 5 % quantile and median over trials of seconds a message |
    | typical_low_s, typical_high_s | 99 % interval of typical_s |
    | dispersion | interquartile range over the median |
    | converged | 1 if that interval lies within 5 % of typical_s |
    | bytes_per_s | message_bytes / typical_s, each way; 0 for round trips |
    """

    direction: str
    message_bytes: int
    messages: int
    trials: int
    quiet_s: float
    typical_s: float
    typical_low_s: float
    typical_high_s: float
    dispersion: float
    converged: int
    bytes_per_s: float


@record
class RoundTrips:
    """The distribution of round trips of an empty frame: quantiles as (share, seconds), ascending."""

    trials: int
    quantiles_s: tuple[tuple[float, float], ...]


@record
class SlowStart:
    """The first large message on a fresh connection against later ones of the same size."""

    message_bytes: int
    first_s: float
    later_s: float


@record
class LinkSummary:
    """What models read. `rate` is of large messages, `per_message_s` what a small one costs beyond its bytes."""

    round_trip_s: float
    rate_up_bytes_per_s: float
    rate_down_bytes_per_s: float
    rate_both_bytes_per_s: float
    per_message_up_s: float
    per_message_down_s: float


@record
class LinkHeader:
    """`link.json`.

    `kind`: measured between two real processes, emulated (measured over an emulated link), or declared (written down).
    `client_profile`, `server_profile`: ids of machine profiles, "" where unknown. `source` says where it is from.
    """

    schema_version: Literal[1]
    id: str
    name: str
    kind: Literal["measured", "emulated", "declared"]
    measured_on: str
    source: str
    client_profile: str
    server_profile: str
    loopback: bool
    tls: bool
    congestion_control: str
    summary: LinkSummary
    round_trips: RoundTrips | None
    slow_start: SlowStart | None
    converged: bool


@record
class LinkProfile:
    """All of one folder; a declared link has no transfers."""

    header: LinkHeader
    transfers: tuple[TransferSample, ...]


def write_link(link: LinkProfile, folder: Path) -> None:
    """Store `link` in `folder`; `link.json` comes last."""
    write_table(TransferSample, link.transfers, folder / "transfers.csv")
    save(link.header, folder / "link.json")


def read_link(folder: Path) -> LinkProfile:
    """Load and check a link profile.

    Raises:
        BadInput: naming the file, and the line and column or the field that is wrong.
    """
    path = folder / "link.json"
    header = load(LinkHeader, path)
    summary = header.summary
    if min(summary.rate_up_bytes_per_s, summary.rate_down_bytes_per_s, summary.rate_both_bytes_per_s) <= 0:
        raise BadInput(f"{path}: field 'summary': rates must be above 0")
    if min(summary.round_trip_s, summary.per_message_up_s, summary.per_message_down_s) < 0:
        raise BadInput(f"{path}: field 'summary': seconds must be at least 0")
    if header.round_trips is not None:
        _check_quantiles(header.round_trips, path)
    transfers = read_table(TransferSample, folder / "transfers.csv", _check_transfer)
    if header.kind != "declared" and not transfers:
        raise BadInput(f"{folder / 'transfers.csv'}: holds no transfers; measure the link again")
    return LinkProfile(header, transfers)


def _check_quantiles(trips: RoundTrips, path: Path) -> None:
    shares, seconds = zip(*trips.quantiles_s, strict=True) if trips.quantiles_s else ((), ())
    rising = all(list(each) == sorted(each) for each in (shares, seconds))
    if not rising or trips.trials < 0 or any(not 0 <= share <= 1 for share in shares) or any(s < 0 for s in seconds):
        raise BadInput(f"{path}: field 'round_trips': quantiles must rise, shares lie in [0, 1], seconds be at least 0")


def _check_transfer(sample: TransferSample, where: str) -> None:
    if sample.direction not in DIRECTIONS:
        raise BadInput(
            f"{where}: column 'direction' is {sample.direction!r}; it must be one of {', '.join(DIRECTIONS)}"
        )
    if not 0 < sample.quiet_s <= sample.typical_s:
        raise BadInput(
            f"{where}: quiet_s = {sample.quiet_s} must be above 0 and at most typical_s = {sample.typical_s}"
        )
