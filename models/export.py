"""A machine's cost model for other tools: a table, and the JSON that HEIR's ILP bootstrap placement reads.

HEIR [HEIR] documents the file beside the pass `--ilp-bootstrap-placement="orbit-cost-model=FILE"`: an object
`latencyTable` of arrays, in microseconds, whose entry i is the latency at level i + 1; all eight keys are required.
A ciphertext of level l has l + 1 limbs. What BFV on SEAL has no operation for is filled in, and named under
`autoprivacy`, which HEIR does not read:

| key | from |
|---|---|
| addCtCt, mulCtPt, rotate, mulCtCt, rescale | add, multiply_plain, rotate, multiply_relinearise, switch_limb |
| addCtPt, negate | taken as add, which passes over at least as many words |
| bootstrap | HEIR's own default, or what the caller gives: BFV here never bootstraps |
"""

from typing import TYPE_CHECKING, Final

from autoprivacy.common.errors import UnmodelledOperation
from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import MachineProfile, WorkDone
from autoprivacy.models.features import Key
from autoprivacy.models.machine_model import MachineModel, Predictor
from autoprivacy.models.operation_model import is_modelled

if TYPE_CHECKING:
    from pandas import DataFrame

BOOTSTRAP_US: Final = 69_320_650.0
"""HEIR's default of `bootstrap-cost`, from the Lattigo profile of its authors at n = 65536 [HEIR]."""

_HEIR: Final = {
    "rescale": "switch_limb",
    "addCtCt": "add",
    "addCtPt": "add",
    "mulCtCt": "multiply_relinearise",
    "mulCtPt": "multiply_plain",
    "rotate": "rotate",
    "negate": "add",
}
_APPROXIMATED: Final = ("addCtPt", "negate")

_SETTING: Final = (
    *("operation", "kernel", "privacy", "state", "n", "limbs", "limb_bits", "q_bits", "t_bits", "special", "kept"),
    *("calls", "items", "values", "bytes", "wires"),
)
COLUMNS: Final = (
    *_SETTING,
    *("model", "predicted_quiet_s", "predicted_typical_s", "relative_doubt", "measured_quiet_s", "measured_typical_s"),
)
"""The columns of `cost_table`; seconds are of all calls of a line, the doubt is a 95 % half-width."""


@record
class HeirLatencies:
    """`latencyTable`, in HEIR's spelling: microseconds, the entry at i for level i + 1."""

    bootstrap: tuple[float, ...]
    rescale: tuple[float, ...]
    addCtCt: tuple[float, ...]  # noqa: N815 - HEIR's names
    addCtPt: tuple[float, ...]  # noqa: N815
    mulCtCt: tuple[float, ...]  # noqa: N815
    mulCtPt: tuple[float, ...]  # noqa: N815
    rotate: tuple[float, ...]
    negate: tuple[float, ...]


@record
class HeirNotes:
    """What the figures are; HEIR does not read it."""

    profile: str
    profile_id: str
    scheme: str
    n: int
    limb_bits: int
    statistic: str
    not_measured: tuple[str, ...]


@record
class HeirCostModel:
    """The whole file."""

    latencyTable: HeirLatencies  # noqa: N815 - HEIR's name
    autoprivacy: HeirNotes


def cost_table(model: MachineModel, profile: MachineProfile) -> "DataFrame":
    """Every setting that was measured, with the model's seconds beside the measured ones; columns are `COLUMNS`."""
    import pandas as pd

    predictor = model.predictor()
    rows = []
    for sample in profile.samples:
        if not is_modelled(sample, profile.header.machine):
            continue
        operation = predictor.operation(sample)
        rows.append(
            (
                *(getattr(sample, name) for name in _SETTING),
                operation.quiet.kind,
                operation.quiet_s(sample),
                operation.typical_s(sample),
                operation.doubt_of(sample),
                sample.quiet_s,
                sample.typical_s,
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def heir_cost_model(
    model: MachineModel, profile: MachineProfile, *, n: int | None = None, bootstrap_us: float = BOOTSTRAP_US
) -> HeirCostModel:
    """HEIR's file of a machine, at ring degree `n` (by default the one with most limbs measured), typical times.

    Raises:
        UnmodelledOperation: if the profile lacks an operation that HEIR asks for.
    """
    predictor = model.predictor()
    degree, limb_bits, limbs = _measured(profile, n)
    levels = range(1, limbs)
    table = {
        name: tuple(_microseconds(predictor, operation, degree, limb_bits, level + 1) for level in levels)
        for name, operation in _HEIR.items()
    }
    return HeirCostModel(
        HeirLatencies(bootstrap=(bootstrap_us,) * len(levels), **table),
        HeirNotes(
            profile=model.profile_name,
            profile_id=model.profile_id,
            scheme="bfv",
            n=degree,
            limb_bits=limb_bits,
            statistic="typical",
            not_measured=("bootstrap", *_APPROXIMATED),
        ),
    )


def _measured(profile: MachineProfile, n: int | None) -> tuple[int, int, int]:
    """Ring degree, bits of the widest limb and most limbs of plaintext products that were measured."""
    found = [(each.limbs, each.n, each.limb_bits) for each in profile.samples if each.operation == "multiply_plain"]
    chosen = [each for each in found if each[0] > 1 and n in {None, each[1]}]
    if not chosen:
        known = ", ".join(str(each) for each in sorted({size for limbs, size, _ in found if limbs > 1})) or "none"
        raise UnmodelledOperation(
            f"profile {profile.header.name} has no plaintext products of several limbs"
            f"{'' if n is None else f' at n = {n}'} (there are: {known}); profile with more depth, or take another n"
        )
    limbs, degree, limb_bits = max(chosen)
    return degree, limb_bits, limbs


def _microseconds(predictor: Predictor, operation: str, n: int, limb_bits: int, limbs: int) -> float:
    kernel = "ring" if Key(operation, "seal") not in predictor.operations else "seal"  # both switch limbs alike
    work = WorkDone(
        operation, n, limb_bits * limbs, calls=1, items=0, limbs=limbs, limb_bits=limb_bits, special=1, kernel=kernel
    )
    return 1e6 * predictor.seconds(work).typical_s
