"""Fitted machines, remembered: a fit takes up to a minute, and every command that predicts needs one.

What is remembered is a file in the user's cache, named by a digest of all that a fit depends on: the whole profile, the
code of this folder and the libraries that fit. So it never needs to be thrown away by hand, and may be at any time.
"""

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import load, save, to_json
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.models.machine_model import MachineModel, fit

KEPT: Final = 32
"""Fits that are remembered at most; the oldest go first."""

_LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "xgboost-cpu", "xgboost")


def fitted(profile: MachineProfile) -> MachineModel:
    """What `machine_model.fit` gives, from the cache where it was fitted before.

    Raises:
        UnmodelledOperation: as `fit` does.
    """
    path = _folder() / f"{_digest(profile)}.json"
    try:
        return load(MachineModel, path)
    except BadInput:  # not there, or damaged: fitted anew
        model = fit(profile)
    try:
        save(model, path)
        for old in sorted(path.parent.glob("*.json"), key=_age)[:-KEPT]:
            old.unlink(missing_ok=True)
    except (BadInput, OSError):
        return model  # a cache that cannot be written is none
    return model


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autoprivacy/fitted"


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _digest(profile: MachineProfile) -> str:
    digest = hashlib.sha256(to_json(profile, indent=None).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr([_version(name) for name in _LIBRARIES]).encode())
    return digest.hexdigest()[:32]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
