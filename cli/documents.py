"""What each command prints with --json, and the JSON schemas of that, which docs/schemas holds.

`python -m autoprivacy.cli.documents docs/schemas` writes them anew.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import TypeAdapter

from autoprivacy.agent.choosing import Found
from autoprivacy.agent.confirmed import Confirmation
from autoprivacy.agent.story import Story
from autoprivacy.agent.swapping import Swapped
from autoprivacy.agent.sweeping import Sweep
from autoprivacy.cli.data_commands import FetchReport, SetReport
from autoprivacy.cli.networks_commands import NetworkReport, NetworkSummary
from autoprivacy.cli.private_commands import InferenceReport
from autoprivacy.cli.profile_commands import Listed
from autoprivacy.cli.proof_commands import Proof
from autoprivacy.common.files import write_atomic
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.latency_report import LatencyReport
from autoprivacy.models.machine_model import MachineModel
from autoprivacy.profiler.check import Checked
from autoprivacy.profiler.comparison import Comparison
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.seal_parameters import SealExport

DOCUMENTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "networks list": list[NetworkSummary],
        "networks show": NetworkReport,
        "data list": list[SetReport],
        "data fetch": FetchReport,
        "train": NetworkReport,
        "profile": MachineProfile | LinkProfile,
        "profiles list": Listed,
        "profiles show": MachineProfile | LinkProfile,
        "profiles check": Checked,
        "profiles compare": Comparison,
        "fit": MachineModel,
        "predict": LatencyReport,
        "compare": LatencyReport,
        "search": Found | Proof | Swapped,
        "sweep": Sweep,
        "policy show": Policy,
        "policy export": SealExport,
        "infer": InferenceReport,
        "confirm": Confirmation,
        "tune": Story,
        "report": Story,
    }
)
"""By command, the type of its document."""


def schema_of(command: str) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a command's document."""
    made = TypeAdapter(DOCUMENTS[command]).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"autoprivacy {command} --json", **made}


def schema_text(command: str) -> str:
    """The schema as its file holds it."""
    return json.dumps(schema_of(command), indent=1) + "\n"


def file_of(command: str, folder: Path) -> Path:
    """Where a command's schema is kept."""
    return folder / f"{command.replace(' ', '-')}.json"


def main() -> None:
    """Write all schemas into the folder that is named."""
    for command in DOCUMENTS:
        write_atomic(file_of(command, Path(sys.argv[1])), schema_text(command).encode())


if __name__ == "__main__":
    main()
