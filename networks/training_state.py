"""What an interrupted training goes on from: one file of arrays, written after every epoch."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Literal

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.common.files import read_bytes
from autoprivacy.common.records import parse, record, to_json
from autoprivacy.networks.convolution import Floats
from autoprivacy.networks.npz import write_npz

Identity = Callable[[str], tuple[object, ...]]
"""What a state of that phase was made from: seed, schedule, first weights, data."""

_META: Final = "meta"


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """How far a training is: the phase, its finished epochs, and every array that goes on from there, by name."""

    phase: str
    epochs: int
    arrays: dict[str, Floats]


@record
class _Meta:
    schema_version: Literal[1]
    phase: str
    epochs: int
    made_from: str


def write_state(state: State, path: Path, identity: Identity) -> None:
    """Write a state, all or nothing.

    Raises:
        BadInput: if the file cannot be written.
    """
    meta = to_json(_Meta(1, state.phase, state.epochs, _fingerprint(identity(state.phase))), indent=None)
    write_npz(path, {**state.arrays, _META: np.frombuffer(meta.encode(), dtype=np.uint8)})


def read_state(path: Path, identity: Identity) -> State | None:
    """The state in a file; None if there is no such file.

    Raises:
        BadInput: if the file is damaged, or another training left it.
    """
    if not path.exists():
        return None
    try:
        with np.load(BytesIO(read_bytes(path)), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: not a whole training state ({error}); remove it to begin anew") from None
    if _META not in arrays:
        raise BadInput(f"{path}: no training state; remove it to begin anew")
    meta = parse(_Meta, arrays.pop(_META).tobytes(), source=str(path))
    if meta.made_from != _fingerprint(identity(meta.phase)):
        raise BadInput(
            f"{path}: was left by a training with another network, seed, schedule or data; "
            "train with those again, or remove it to begin anew"
        )
    return State(meta.phase, meta.epochs, arrays)


def _fingerprint(made_from: tuple[object, ...]) -> str:
    described = json.dumps([part if isinstance(part, int | str) else to_json(part) for part in made_from])
    return hashlib.sha256(described.encode()).hexdigest()
