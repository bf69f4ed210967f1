"""Seconds that messages take on a link, from its profile.

A message that the other side waits for takes half a round trip, and its bytes at the rate of its direction. On a
measured link the seconds for its bytes are read between the sizes that were timed (linear between them, at the rate of
the largest beyond); on a declared one rate and round trip are all there is.
"""

import numpy as np

from autoprivacy.common.records import record
from autoprivacy.hwprofiles.link_profile import LinkProfile, TransferSample
from autoprivacy.hwprofiles.machine_profile import Seconds


@record
class Direction:
    """Seconds for a message's bytes: at `sizes` bytes (ascending) what was timed, less what an empty one takes."""

    rate_bytes_per_s: float
    sizes: tuple[int, ...]
    quiet_s: tuple[float, ...]
    typical_s: tuple[float, ...]

    def __call__(self, size: int) -> Seconds:
        """Seconds that `size` bytes add."""
        if not self.sizes:
            return Seconds(size / self.rate_bytes_per_s, size / self.rate_bytes_per_s)
        return Seconds(self._read(size, self.quiet_s), self._read(size, self.typical_s))

    def _read(self, size: int, seconds: tuple[float, ...]) -> float:
        if size > self.sizes[-1]:
            return seconds[-1] * size / self.sizes[-1]
        return float(np.interp(size, self.sizes, seconds))


@record
class LinkModel:
    """What a message costs; `kind` is measured, emulated or declared."""

    profile_id: str
    name: str
    kind: str
    loopback: bool
    converged: bool
    half_trip: Seconds
    up: Direction
    down: Direction

    def message(self, size: int, *, up: bool, waited_for: bool = True) -> Seconds:
        """Seconds of one message of `size` bytes, headers included, until the other side has all of it.

        One that follows another of the same direction is not waited for: it comes behind it.
        """
        own = (self.up if up else self.down)(size)
        if not waited_for:
            return own
        return Seconds(self.half_trip.quiet_s + own.quiet_s, self.half_trip.typical_s + own.typical_s)


def fit_link(profile: LinkProfile) -> LinkModel:
    """The model of one link."""
    header, summary = profile.header, profile.header.summary
    empty = min(
        (sample for sample in profile.transfers if sample.direction == "round_trip"),
        key=lambda sample: sample.message_bytes,
        default=None,
    )
    half = Seconds(summary.round_trip_s / 2, summary.round_trip_s / 2)
    if empty is not None:
        half = Seconds(empty.quiet_s / 2, empty.typical_s / 2)
    return LinkModel(
        profile_id=header.id,
        name=header.name,
        kind=header.kind,
        loopback=header.loopback,
        converged=header.converged,
        half_trip=half,
        up=_direction(profile.transfers, "up", summary.rate_up_bytes_per_s),
        down=_direction(profile.transfers, "down", summary.rate_down_bytes_per_s),
    )


def _direction(transfers: tuple[TransferSample, ...], which: str, rate: float) -> Direction:
    found = sorted((each for each in transfers if each.direction == which), key=lambda each: each.message_bytes)
    if not found:
        return Direction(rate, (), (), ())
    least_quiet, least_typical = found[0].quiet_s, found[0].typical_s
    return Direction(
        rate,
        tuple(each.message_bytes for each in found),
        tuple(float(x) for x in np.maximum.accumulate([max(0.0, each.quiet_s - least_quiet) for each in found])),
        tuple(float(x) for x in np.maximum.accumulate([max(0.0, each.typical_s - least_typical) for each in found])),
    )
