"""Random settings of one layer, and how its noise compares with what the model says: for fast and slow tests alike.

Key switching is three quarters determined by the keys, so one set of keys says little about it: a setting has as many
as make the ratio's own standard error about one per cent, and those that need too many for a test are drawn again.
"""

from dataclasses import dataclass, replace

import numpy as np

from autoprivacy.common.errors import InvalidPolicy
from autoprivacy.protocol.circuit_privacy import CircuitPrivacy
from autoprivacy.protocol.error_model import DecryptionError, decryption_error
from autoprivacy.protocol.error_noise import Setting, noise_bound
from autoprivacy.protocol.he_set import he_set_for, ntt_prime
from autoprivacy.protocol.linear_layer import layout_of
from autoprivacy.protocol.linear_shape import LinearShape
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.slot_tiles import slot_tiles
from autoprivacy.protocol.tiles import default_tile
from autoprivacy.protocol.wire import Response
from tests.protocol.noise import layer_noise

COEFFICIENT_SETS = (
    (1024, (26,)),
    (2048, (53,)),
    (2048, (27, 26)),
    (4096, (54, 52)),
    (4096, (36, 36, 34)),
    (8192, (60, 60)),
    (8192, (60, 60, 60)),
    (16384, (60,)),
    (16384, (60, 60, 60)),
)
SLOT_SETS = (
    (4096, (36, 36), 34),
    (4096, (36, 36), 34),
    (4096, (50,), 56),
    (4096, (40, 30), 36),
    (8192, (50, 50), 60),
    (8192, (43, 43, 44), 44),
    (8192, (60, 60), 60),
    (16384, (60, 60), 60),
)
LEAST = 20_000
"""Coefficients whose noise is read, at least."""
KEY_SETS = 5
MOST_KEY_SETS = 60
MOST_RUNS = 60
MORE = 6
"""Times the planned key sets that are read at most."""
TARGET = 0.011
MOST_PRODUCTS = 150
ROOM_BITS = 3.2
"""Noise is read off the phase modulo q / t: that far must lie between its standard deviation and q / 2t."""


@dataclass(frozen=True)
class Case:
    """A layer's setting with weights, its model, and how many key sets (and runs under each) are enough."""

    setting: Setting
    weight: np.ndarray
    model: DecryptionError
    key_sets: int
    runs: int
    own_kernels: bool = False

    def __str__(self):
        setting = self.setting
        he_set = setting.he_set
        packing = "slots" if isinstance(setting.layout, SlotLayout) else "coefficients"
        packing += " on our kernels" if self.own_kernels else ""
        return (
            f"{packing} n={he_set.n} limbs={he_set.limb_bits} t={he_set.t_bits} bits, {setting.privacy}, "
            f"{setting.response}, shared={setting.shared}, {setting.layout.shape}, {setting.layout.tile}"
        )


def random_case(rng, packing=None, *, most_n=16384):
    """A case of one packing, or of either."""
    packing = packing or str(rng.choice(["coefficients", "slots"]))
    while True:
        try:
            case = _case(rng, packing, most_n)
        except InvalidPolicy:
            continue
        if case is not None:
            return case


def _case(rng, packing, most_n):
    he_set = _he_set(rng, packing)
    if he_set.n > most_n:
        return None
    shape = _shape(rng)
    if packing == "slots":
        tiles = slot_tiles(shape, he_set.n)
        tile = tiles[rng.integers(len(tiles))]
    else:
        tile = default_tile(shape, he_set.n)
    layout = layout_of(shape, packing, tile, he_set.n)
    if isinstance(layout, SlotLayout) and np.prod(layout.products_shape) > MOST_PRODUCTS:
        return None
    kept = int(rng.integers(1, len(he_set.limbs) + 1))
    kinds = ["none", "rerandomise", "flood:10"] + (["uniform"] * 2 if kept == 1 else [])
    dropping = kept == 1 and rng.random() < 0.6
    setting = Setting(
        he_set=he_set,
        layout=layout,
        weight_bits=int(rng.integers(2, 9)),
        privacy=CircuitPrivacy.parse(str(rng.choice(kinds))),
        response=Response(
            int(rng.integers(0, 13)) if dropping else 0, int(rng.integers(0, 9)) if dropping else 0, kept
        ),
        shared=bool(rng.random() < 0.7),
    )
    setting.response.check(he_set)
    setting.privacy.check(he_set, setting.response, noise_bound(setting))
    if he_set.t < 1 << setting.weight_bits:
        return None
    half = 1 << (setting.weight_bits - 1)
    weight = rng.integers(-half, half, shape.weight_shape)
    weight[rng.random(shape.out_channels) < 0.1] = 0
    return _planned(setting, weight, own_kernels=packing == "coefficients" and bool(rng.random() < 0.5))


def _planned(setting, weight, *, own_kernels):
    model = decryption_error(setting, weight)
    if model.slack_bits < ROOM_BITS:
        return None
    layout = setting.layout
    needed = KEY_SETS + int(_spread(model) / (4 * TARGET**2))
    of_a_run = layout.responses * layout.n if isinstance(layout, SlotLayout) else layout.shape.output_values
    runs = -(-LEAST // (needed * of_a_run))
    if needed > MOST_KEY_SETS or runs > MOST_RUNS:
        return None
    return Case(setting, weight, model, needed, runs, own_kernels)


def _spread(model):
    """Variance between key sets of the mean square of noise, relative.

    The energy of what one key determines varies by about its mean, once weights are given: a few waves carry it. Keys
    differ in their weight, so that they count half, and digits by the squares of their primes.
    """
    setting, parts = model.setting, model.parts
    counts = np.array(setting.coefficient_counts)
    squares = np.array([float(limb) ** 2 for limb in setting.he_set.limbs])
    digits = float(squares.sum() ** 2 / (squares**2).sum())
    keys = len(setting.layout.steps) if isinstance(setting.layout, SlotLayout) else 1
    dropped = setting.response.dropped_c1
    # Dropped halves are rounded up: a mean of 1/2, which meets the secret.
    fixed_drop = 0.25 / ((4.0**dropped + 2) / 12) if dropped else 0.0
    spread = 0.0
    for part, share, terms in (
        (parts.input_switching, 0.75, digits * max(1, keys / 2)),
        (parts.output_switching, 0.75, digits),
        (parts.dropping, fixed_drop, 1),
    ):
        of_all = float(((part / model_variance(model)) * counts).sum(axis=1).max() / counts.sum())
        spread += (share * of_all) ** 2 / terms
    return spread


def _he_set(rng, packing):
    if packing == "slots":
        n, limbs, special = SLOT_SETS[rng.integers(len(SLOT_SETS))]
        return he_set_for(n, limbs, ntt_prime(n, int(rng.integers(16, 23))), special_bits=special)
    n, limbs = COEFFICIENT_SETS[rng.integers(len(COEFFICIENT_SETS))]
    bits = int(rng.integers(4, 25))
    t = 1 << bits if rng.random() < 0.5 else int(rng.integers(1 << (bits - 1), 1 << bits)) | 1
    return he_set_for(n, limbs, max(3, t))


def _shape(rng):
    kind = rng.integers(4)
    if kind == 0:
        return LinearShape(int(rng.integers(20, 400)), 1, 1, int(rng.integers(4, 60)), (1, 1))
    groups = int(rng.choice([1, 1, 2, 6])) if kind == 1 else 1
    size, kernel = int(rng.integers(4, 15)), int(rng.integers(1, 4))
    return LinearShape(
        in_channels=groups * int(rng.integers(1, 9)),
        height=size,
        width=size,
        out_channels=groups * int(rng.integers(1, 9)),
        kernel=(kernel, kernel),
        stride=(int(rng.integers(1, 3)),) * 2,
        padding=(int(rng.integers(0, kernel)),) * 4,
        groups=groups,
    )


def model_variance(model):
    """Variance of e by row and class (R, classes)."""
    parts = model.parts
    return parts.normal + (parts.flooding_width**2 + parts.dropping_width**2) / 3


def normalised_noise(case, rng):
    """For every run the noise of all responses over its predicted standard deviation, flat."""
    setting, layout = case.setting, case.setting.layout
    deviation = np.sqrt(model_variance(case.model))
    places = np.arange(layout.n)
    # X^0 is divisible by every power of two that there is.
    twos = np.where(places, np.bitwise_count((places & -places) - 1), layout.n.bit_length() - 1)
    classes = twos if deviation.shape[1] > 1 else np.zeros(layout.n, np.int64)
    for responses in layer_noise(
        setting, case.weight, rng, key_sets=case.key_sets, runs=case.runs, own_kernels=case.own_kernels
    ):
        scaled = []
        for response, e in enumerate(responses):
            row = response % setting.rows
            scaled.append(e / (deviation[row][classes] if isinstance(layout, SlotLayout) else deviation[row, 0]))
        yield np.concatenate(scaled)


def deviation_ratio(case, rng):
    """Observed over predicted standard deviation (root mean square), its standard error, and the coefficients read.

    What was planned is a guess at how much keys differ: more key sets follow while they differ more than that.
    """
    energies: list[float] = []
    of_a_set: list[float] = []
    total = 0
    for e in normalised_noise(replace(case, key_sets=MORE * case.key_sets), rng):
        of_a_set.append(float(e @ e) / e.size)
        total += e.size
        if len(of_a_set) < case.runs:
            continue
        energies.append(float(np.mean(of_a_set)))
        of_a_set = []
        error = float(np.std(energies, ddof=1) / np.sqrt(len(energies)) / 2) if len(energies) > 1 else np.inf
        if len(energies) >= case.key_sets and error < TARGET:
            break
    return float(np.sqrt(np.mean(energies))), error, total
