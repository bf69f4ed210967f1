"""How the networks of the zoo are trained, and a user's own."""

from dataclasses import replace
from math import prod
from typing import Final

from autoprivacy.common.records import record
from autoprivacy.networks.graph import Network


@record
class PhaseSchedule:
    """How long one phase lasts, and its highest rate (of momentum descent in float, then of Adam)."""

    epochs: int
    rate: float


@record
class Schedule:
    """How to train: two phases, and what is done to the images of a batch.

    `largest_shift` moves images by up to so many pixels each way, `mirrored` mirrors half of them; `half_precision`
    computes in bfloat16: three times faster where the CPU multiplies it (AVX-512 BF16, AMX), ten times slower
    elsewhere. Sums are split among `threads`, so another number rounds otherwise and gives other weights.
    """

    float_phase: PhaseSchedule
    any_precision: PhaseSchedule
    batch: int = 128
    weight_decay: float = 5e-4
    largest_shift: int = 4
    mirrored: bool = True
    half_precision: bool = False
    threads: int = 2

    def lasting(self, float_epochs: int | None, any_precision_epochs: int | None) -> "Schedule":
        """The same for other numbers of epochs; None leaves a number as it is."""
        phases = {"float_phase": float_epochs, "any_precision": any_precision_epochs}
        changed = {
            name: replace(getattr(self, name), epochs=epochs) for name, epochs in phases.items() if epochs is not None
        }
        return replace(self, **changed)


SCHEDULES: Final = {
    "digits-cnn": Schedule(
        PhaseSchedule(60, 0.05),
        PhaseSchedule(200, 3e-3),
        batch=64,
        largest_shift=1,
        mirrored=False,
        threads=1,
    ),
    "lenet5": Schedule(PhaseSchedule(12, 0.05), PhaseSchedule(12, 2e-3), largest_shift=2, mirrored=False),
    "minionn": Schedule(PhaseSchedule(8, 0.1), PhaseSchedule(6, 1e-3)),
    "resnet20": Schedule(PhaseSchedule(30, 0.2), PhaseSchedule(15, 1e-3)),
    "resnet32": Schedule(PhaseSchedule(16, 0.2), PhaseSchedule(8, 1e-3)),
    "mobilenetv2": Schedule(PhaseSchedule(20, 0.1), PhaseSchedule(10, 5e-4)),
}
"""What the networks of the zoo are trained by."""


def of_zoo(name: str) -> Schedule:
    """What a network of the zoo is trained by."""
    return SCHEDULES[name]


def fine_tuning(network: Network) -> Schedule:
    """For a user's own network, whose weights are given: images are not changed, for what they show is not known."""
    batch = 128 if prod(network.input_shape) <= 3 * 32 * 32 else 32
    return Schedule(PhaseSchedule(0, 0.0), PhaseSchedule(8, 5e-4), batch, largest_shift=0, mirrored=False)
