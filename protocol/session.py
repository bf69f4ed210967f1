"""The two-party session: `Client` and `Server`, in the schedules `online` [Gazelle] and `preprocessed` [DELPHI].

What each side does, in order, is in `client_steps.py` and `server.py` (docs/protocol.md).
"""

from autoprivacy.protocol.client import Client, Inference, Phase, Revealed
from autoprivacy.protocol.conversation import MOST_PREPARED, Schedule
from autoprivacy.protocol.server import WEIGHT_BUDGET_BYTES, Server
from autoprivacy.protocol.times import LayerTimes

__all__ = [
    "MOST_PREPARED",
    "WEIGHT_BUDGET_BYTES",
    "Client",
    "Inference",
    "LayerTimes",
    "Phase",
    "Revealed",
    "Schedule",
    "Server",
]
