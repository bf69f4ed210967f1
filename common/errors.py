"""The errors a user can meet: one base class, few causes, each with its exit code.

A message is one line that says what is wrong, with the values, and what to do next.
"""

from typing import ClassVar


class AutoPrivacyError(Exception):
    """Base of everything this project raises on purpose; `exit_code` is what the command returns."""

    exit_code: ClassVar[int] = 1


class BadInput(AutoPrivacyError):  # noqa: N818 - named for what the user did, not for being an error
    """A file, argument or shape that cannot be used."""

    exit_code = 2


class InvalidPolicy(BadInput):
    """A policy that does not fit its network, or that cannot hold its accumulators."""


class ProtocolError(BadInput):
    """The peer is unreachable, unauthenticated, or does not follow the protocol."""


class Refused(AutoPrivacyError):  # noqa: N818 - as above
    """Well-formed, but it would be unsafe or misleading to go on."""

    exit_code = 3


class InsecureParameters(Refused):
    """HE parameters below the demanded security."""


class ProfileMismatch(Refused):
    """A profile that is stale, or that is not of this machine."""


class UnmodelledOperation(Refused):
    """A plan contains an operation that the latency model was never fitted for."""


class PredictionMissed(AutoPrivacyError):  # noqa: N818 - as above
    """A measured result contradicts its prediction."""

    exit_code = 4
