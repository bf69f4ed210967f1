"""What latency models are judged on: settings, layers and policies from a seeded generator, which no fit ever saw.

The generator knows no profile. What a profile measured all the same is left out when figures are made (`setting_key`).
"""

from dataclasses import dataclass
from math import log
from typing import Final, TypeAlias

import numpy as np

from autoprivacy.agent.he_choices import SetChoice, set_choices
from autoprivacy.common.errors import AutoPrivacyError, InvalidPolicy
from autoprivacy.models.features import Handled, key_of
from autoprivacy.networks import data, zoo
from autoprivacy.networks.accumulators import least_modulus_bits
from autoprivacy.networks.integer_network import (
    IntegerLinear,
    LayerWidths,
    QuantisedNetwork,
    Stage,
    Widths,
    meetings,
)
from autoprivacy.networks.quantisation import Quantiser
from autoprivacy.profiler.harness import Workload
from autoprivacy.profiler.he_parties import GridSet
from autoprivacy.profiler.he_workloads import he_workload
from autoprivacy.profiler.random_networks import chain, convolution, linear
from autoprivacy.profiler.workloads import circuit_pair, frame_workload, transfer_pair
from autoprivacy.protocol.agreeing import agree, linear_shape
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.linear_layer import default_tile_of
from autoprivacy.protocol.named_sets import NAMED_SETS
from autoprivacy.protocol.nonlinear_circuits import Nonlinear
from autoprivacy.protocol.policy import LayerPolicy, Policy, Provenance

SEED: Final = 20201206
"""Of the settings that figures are about. Develop models on others (`--seed`)."""

Rng: TypeAlias = np.random.Generator
BUDGET_BITS: Final = {1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430}
MOST_LIMBS: Final = 7
COMMON: Final = ("encrypt", "receive", "receive_add_share", "to_ntt", "from_ntt", "weighted_sum", "respond", "decrypt")
OF_SLOTS: Final = ("rotate", "swap_rows", "add")
CALIBRATED: Final = 32
"""Images that networks are calibrated on: times do not depend on the weights."""

FLOODED: Final = "flood:40"


def spread(rng: Rng, low: float, high: float) -> int:
    """A whole number, uniform in its logarithm."""
    return round(float(np.exp(rng.uniform(log(low), log(high)))))


def operation_workloads(seed: int, count: int) -> list[Workload]:
    """About `count` distinct settings of HE operations, circuits, transfers, and frames over loopback."""
    rng = np.random.default_rng((seed, 0))
    found: dict[str, Workload] = {}
    while len(found) < 0.8 * count:
        grid = _grid_set(rng)
        names = [*COMMON, *(OF_SLOTS if grid.packing == "slots" else ("encode",)), "weighted_sum", "respond"]
        for name in rng.choice(names, min(4, len(names)), replace=False).tolist():
            each = he_workload(grid, name, _items(rng, grid, name))
            found[each.key] = each
    for _ in range(round(0.07 * count)):
        for each in circuit_pair(_nonlinear(rng), spread(rng, 4, 6000)):
            found[each.key] = each
    for _ in range(round(0.02 * count) + 1):
        for each in transfer_pair(16 * spread(rng, 16, 9000)):
            found[each.key] = each
    for _ in range(round(0.03 * count)):
        each = frame_workload(spread(rng, 100, 3 << 20))
        found[each.key] = each
    return list(found.values())


def _items(rng: Rng, grid: GridSet, operation: str) -> int:
    if operation == "weighted_sum":
        return spread(rng, 1, 64)
    if operation in {"respond", "decrypt"}:
        return grid.n // 2 if grid.packing == "slots" else spread(rng, 1, grid.n)
    return 0


def _grid_set(rng: Rng) -> GridSet:
    """A set that can be had; larger rings have more of them, and are drawn more often."""
    while True:
        slots = rng.random() < 0.3
        n = int(rng.choice([4096, 8192, 16384] if slots else [1024, 2048, 4096, 8192, 16384]))
        limbs, bits = int(rng.integers(1, MOST_LIMBS + 1)), int(rng.integers(20 if n == 1024 else 26, 56))
        special = int(rng.integers(bits, 58)) if slots else None
        if limbs * bits + (special or 0) > BUDGET_BITS[n]:
            continue
        grid = GridSet(n, (bits,) * limbs, int(rng.integers(10, max(11, min(30, bits - 3)))), special)
        try:
            if grid.he_set.q_bits < grid.t_bits + (60 if slots else 2):
                continue
        except AutoPrivacyError:
            continue
        return grid


def _nonlinear(rng: Rng) -> Nonlinear:
    """A layer's circuit: of powers of two, more rarely of a prime; ReLU, sometimes pooled."""
    bits, width = int(rng.integers(4, 9)), int(rng.integers(12, 30))
    shift = int(rng.integers(1, width - bits))
    prime = rng.random() < 0.2
    modulus = [65537, 1032193, 1073692673][int(rng.integers(3))] if prime else 1 << width
    shift = min(shift, modulus.bit_length() - 2 - bits)
    out = modulus if prime else 1 << int(rng.integers(bits + 2, 26))
    return Nonlinear(modulus, max(0, shift), bits, (out,), window=int(rng.choice([1, 1, 1, 4])))


def setting_key(handled: Handled) -> tuple[object, ...]:
    """What a model can tell settings apart by: those with the same key count as the same."""
    wide = handled.limb_bits > 30  # other words
    return (*key_of(handled), handled.n, handled.limbs, wide, handled.items, handled.values, handled.kept)


@dataclass(frozen=True, slots=True)
class Unseen:
    """One network under one policy, to be run and predicted."""

    name: str
    network: QuantisedNetwork
    agreement: Agreement
    policy: Policy


def layer_cases(seed: int, index: int, policies: int) -> list[Unseen]:
    """A small random network of three layers under several policies, two of five in packing `slots`."""
    rng = np.random.default_rng((seed, 1, index))
    stages, bits = _stages(rng)
    network = chain(f"unseen{index}", stages, bits)
    found = []
    for number in range(policies):
        privacy = ("uniform", "uniform", "uniform", FLOODED, "rerandomise")[number % 5]
        policy = _random_policy(rng, network, privacy, slots=number % 5 > 2)
        found.append(Unseen(f"{number}", network, agree(network, policy), policy))
    return found


def _stages(rng: Rng) -> tuple[tuple[Stage, ...], list[int]]:
    size = int(rng.integers(7, 21))
    bits = [int(rng.integers(3, 7)) for _ in range(3)]
    kernels = [int(rng.choice([1, 3, 3, 5])) for _ in range(2)]
    first = convolution("first", rng, (int(rng.integers(1, 17)), size, size), spread(rng, 6, 32), kernels[0], bits[0])
    second = convolution("second", rng, first.output_shape, spread(rng, 6, 32), kernels[1], bits[1])
    flat = (int(np.prod(second.output_shape)), 1, 1)
    return (first, second, linear("third", rng, flat, int(rng.integers(4, 40)), bits[2])), bits


def _random_policy(rng: Rng, network: QuantisedNetwork, privacy: str, *, slots: bool) -> Policy:
    """A set of the search's own for every layer, whatever its errors; its t and tile follow."""
    packing = "slots" if slots else "coefficients"
    choices = [choice for choice in set_choices(("coefficients", "slots"), "he2024") if choice.packing == packing]
    least = least_modulus_bits(network)
    for meeting in meetings(network):
        least |= dict.fromkeys(meeting.layers, max(least[name] for name in meeting.layers))
    made_by = Provenance("", "random, for benchmarks", (), "total", None, None)
    while True:
        layers = {
            layer.name: _layer_policy(rng, choices, layer, least[layer.name], widths)
            for layer, widths in zip(network.linear_layers, network.widths.layers, strict=True)
        }
        policy = Policy(1, network.name, network.trained_hash, privacy, "he2024", layers, made_by)
        try:
            agree(network, policy)
        except InvalidPolicy:
            continue
        return policy


def _layer_policy(
    rng: Rng, choices: list[SetChoice], layer: IntegerLinear, t_bits: int, widths: LayerWidths
) -> LayerPolicy:
    while True:
        choice = choices[int(rng.integers(len(choices)))]
        try:
            he_set = choice.he_set(choice.t(t_bits), "he2024")
            tile = default_tile_of(linear_shape(layer), choice.packing, choice.n)
        except AutoPrivacyError:
            continue
        return LayerPolicy(
            packing=choice.packing,
            n=choice.n,
            limbs=he_set.limbs,
            t=he_set.t,
            tile=tile,
            weight_bits=widths.weight_bits,
            activation_bits=widths.activation_bits,
            special=he_set.special,
        )


NETWORKS: Final = {
    "digits-cnn": ("random0", "random1", "cheetah", "slots"),
    "lenet5": ("random0", "random1", "random2", "cheetah"),
    "minionn": ("random0", "random1", "cheetah"),
    "resnet20": ("random0", "random1"),
}
"""Policies of each network of the zoo: of random sets and weight widths by layer, or one named set for all layers."""


def network_cases(seed: int, name: str) -> list[Unseen]:
    """A network of the zoo under its policies."""
    trained, splits = zoo.load(name), data.splits(name)
    quantiser = Quantiser(trained, splits.calibrate.x[:CALIBRATED])
    layers = [layer.name for layer in trained.network.linear_layers]
    found = []
    for number, kind in enumerate(NETWORKS[name]):
        rng = np.random.default_rng((seed, 2, len(name), number))
        bits = [4 if kind in NAMED_SETS else int(rng.integers(3, 7)) for _ in layers]
        widths = Widths(tuple(LayerWidths(each, b, 4) for each, b in zip(layers, bits, strict=True)))
        network = quantiser.quantise(widths)
        if kind in NAMED_SETS:
            policy = _named_policy(network, kind)
        else:
            slots = kind == "slots"
            policy = _random_policy(rng, network, FLOODED if slots else "uniform", slots=slots)
        found.append(Unseen(kind, network, agree(network, policy), policy))
    return found


def _named_policy(network: QuantisedNetwork, name: str) -> Policy:
    """One set of a known system for all layers, at its own t."""
    chosen, least = NAMED_SETS[name], least_modulus_bits(network)
    layers = {
        layer.name: chosen.layer_policy(
            linear_shape(layer), widths.weight_bits, widths.activation_bits, least[layer.name]
        )
        for layer, widths in zip(network.linear_layers, network.widths.layers, strict=True)
    }
    made_by = Provenance("", f"{chosen.title}'s set", (), "total", None, None)
    return Policy(1, network.name, network.trained_hash, "uniform", chosen.security, layers, made_by)
