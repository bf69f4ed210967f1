"""Confirmation: policies run for real, between two processes, interleaved, and put beside their predictions.

Every inference is also checked: the server is started for testing and opens its shares *after* the clock has stopped,
so that each decryption error is seen, and the logits must be exactly the integer reference with those errors.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autoprivacy.agent.confirmed import (
    Confirmation,
    Confirmed,
    ConfirmedLayer,
    ConfirmedPhase,
    LayerErrors,
    Timing,
    added,
    medians,
    verdict,
)
from autoprivacy.agent.servers import Servers
from autoprivacy.common.errors import BadInput
from autoprivacy.models.prediction import Components, LayerPrediction, Prediction
from autoprivacy.networks import reference
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.profiler.layers import link_seconds, overlap
from autoprivacy.profiler.machine import on_core
from autoprivacy.profiler.spells import CLIENT_CORE, Spells
from autoprivacy.profiler.statistics import median_interval, quiet
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.error_model import (
    FAILURE_BITS,
    DecryptionError,
    decryption_errors,
    network_failure_bits,
)
from autoprivacy.protocol.plan import LayerPlan, Plan, plan_network
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.session import Inference, LayerTimes, Phase, Revealed
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.transport import Traffic

_LOG: Final = logging.getLogger(__name__)

WARM_UP: Final = 2
SIGMAS: Final = 6.0
SLOW_S: Final = 5.0
"""One inference that takes so long is warm-up enough."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy to be run: its label in reports, the network at its widths, and what is predicted."""

    label: str
    policy: Policy
    agreement: Agreement
    network: QuantisedNetwork
    prediction: Prediction
    schedule: Schedule = "online"


@dataclass(frozen=True, slots=True)
class Done:
    """One inference, what its server opened, and seconds of the reference operation meanwhile, on either core."""

    inference: Inference
    revealed: Revealed
    reference_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Runs:
    """All inferences of one contender, an image each, and its session's set-up."""

    contender: Contender
    done: tuple[Done, ...]
    setup_s: float

    @property
    def seconds(self) -> list[float]:
        """Of each image, offline and online."""
        return [
            each.inference.latency_s + (each.inference.offline.latency_s if each.inference.offline else 0.0)
            for each in self.done
        ]


def run_privately(
    contenders: Sequence[Contender],
    servers: Servers,
    images: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    progress: Callable[[], None],
) -> tuple[Runs, ...]:
    """Run every contender on every image, in random order within each image; each has just run before, untimed.

    Slow ones have not: they find caches as cold in any case.

    Raises:
        ProtocolError: if a server fails.
    """
    if len({each.label for each in contenders}) < len(contenders):
        raise BadInput(f"policies share a label: {', '.join(each.label for each in contenders)}; rename their files")
    done: list[list[tuple[int, tuple[Inference, Revealed]]]] = [[] for _ in contenders]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(servers.client(each.label, each.policy, each.agreement, each.schedule))
            for each in contenders
        ]
        spells = Spells(servers.here)
        # Not before: a process that starts keeps the core of the one that starts it.
        stack.enter_context(on_core(CLIENT_CORE))
        slow = []
        for each, client in zip(contenders, clients, strict=True):
            took_s = client.infer(images[0]).latency_s
            for _ in range(WARM_UP - 1 if took_s < SLOW_S else 0):
                took_s = client.infer(images[0]).latency_s
            slow.append(took_s >= SLOW_S)
            _LOG.info("%s: set up in %.3f s, warm in %.6f s an image", each.label, client.setup_s, took_s)
        spells.look()
        for image in images:
            for index in rng.permutation(len(clients)):
                client = clients[index]
                if not slow[index]:
                    client.infer(image)  # servers answer requests in a row: not with caches that another policy left
                run = client.infer_revealed(image)
                spells.look()
                done[index].append((spells.latest, run))
                _LOG.debug("%s: %.6f s", contenders[index].label, run[0].latency_s)
                progress()
        setups = [client.setup_s for client in clients]
    during = spells.during()
    return tuple(
        Runs(contender, tuple(Done(*run, during[number]) for number, run in own), setup_s)
        for contender, own, setup_s in zip(contenders, done, setups, strict=True)
    )


def confirmed(
    runs: Sequence[Runs],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    version: str,
    link: str,
    seed: int,
    reference_typical_s: float,
    candidates: Sequence[str] = (),
) -> Confirmation:
    """What the runs say beside their predictions; `reference_typical_s` is of the profile's reference operation.

    Raises:
        BadInput: if there are no images, or not as many labels.
    """
    if len(images) < 1 or len(images) != len(labels):
        raise BadInput(f"{len(images)} images and {len(labels)} labels: give as many of both, at least one")
    beside = np.median([each.reference_s for own in runs for each in own.done], axis=0)
    drift = float(np.sqrt(beside.prod())) / reference_typical_s
    policies = tuple(_confirmed(own, images, labels, drift) for own in runs)
    return Confirmation(
        schema_version=1,
        version=version,
        network=runs[0].contender.network.name,
        network_hash=runs[0].contender.network.trained_hash,
        link=link,
        seed=seed,
        candidates=tuple(candidates),
        policies=policies,
        verdicts=tuple(verdict(policies[0], other) for other in policies[1:]),
        drift=drift,
    )


def _confirmed(runs: Runs, images: NDArray[np.float32], labels: NDArray[np.int64], drift: float) -> Confirmed:
    contender, network = runs.contender, runs.contender.network
    inputs = network.quantise_input(images)
    moduli = {layer.name: layer.policy.t for layer in contender.agreement.layers}
    errors = seen_errors(network, inputs, [each.revealed for each in runs.done], moduli)
    got = np.stack([each.inference.logits for each in runs.done])
    clean = reference.logits(network, inputs, moduli=moduli)
    explained = reference.logits(network, inputs, errors=errors, moduli=moduli)
    models = decryption_errors(network, contender.agreement)
    by_layer = tuple(_layer_errors(name, errors[name], models[name]) for name in errors)
    planned = plan_network(network, contender.agreement, contender.schedule)
    online, offline = _online(runs, planned), _offline(runs, planned)
    total = online.timing if offline is None else _total(runs, online, offline)
    return Confirmed(
        label=contender.label,
        schedule=contender.schedule,
        images=len(images),
        correct=int((got.argmax(axis=1) == labels).sum()),
        logits_equal=int((got == clean).all(axis=1).sum()),
        logits_explained=int(((got == explained).all(axis=1) & _plausible(models, errors)).sum()),
        errors_seen=sum(each.seen for each in by_layer),
        errors_expected=sum(each.expected for each in by_layer),
        error_free=network_failure_bits(models) >= FAILURE_BITS,
        errors=by_layer,
        predicted_setup_s=contender.prediction.setup_s,
        setup_s=runs.setup_s,
        total=total,
        online=online,
        offline=offline,
        within_interval=within(total, contender.prediction, drift),
    )


def seen_errors(
    network: QuantisedNetwork, x: NDArray[np.int64], opened: Sequence[Revealed], moduli: dict[str, int]
) -> dict[str, NDArray[np.int64]]:
    """Decryption errors by layer (images, M, H', W') of inferences on x (images, C, H, W)."""
    accumulators = {
        layer.name: np.stack([each.accumulators[layer.name].reshape(layer.output_shape) for each in opened])
        for layer in network.linear_layers
    }
    return reference.errors_in(network, x, accumulators, moduli=moduli)


def _layer_errors(name: str, seen: NDArray[np.int64], model: DecryptionError) -> LayerErrors:
    return LayerErrors(
        layer=name,
        values=seen.size,
        seen=int((seen != 0).sum()),
        expected=model.expected_errors * len(seen),
        largest=int(np.abs(seen).max(initial=0)),
    )


def _plausible(models: dict[str, DecryptionError], errors: dict[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Per image: no error is larger than the model's SIGMAS standard deviations and one step of rounding.

    A spoiled response of packing `slots` may hold anything.
    """
    fine = np.ones(len(next(iter(errors.values()))), bool)
    for name, model in models.items():
        if isinstance(model.setting.layout, SlotLayout):
            continue
        limit = 1 + SIGMAS * model.deviation[None, :, None, None]
        fine &= (np.abs(errors[name]) <= limit).all(axis=(1, 2, 3))
    return fine


def within(total: Timing, prediction: Prediction, drift: float) -> bool:
    """Whether the measured interval meets the predicted one, as it was seen or with the machine's drift divided out.

    In a spell of slow-down not everything slows down as much as the reference operation: some more, so that the
    machine's own slow-down is allowed for as well, some less.
    """
    low, high = (total.measured_s if end is None else end for end in (total.measured_low_s, total.measured_high_s))
    slower = prediction.busy_s / prediction.latency_s if drift > 1 else 1.0
    return low / max(drift, 1.0) <= total.predicted_high_s * slower and total.predicted_low_s <= high / min(drift, 1.0)


def _online(runs: Runs, planned: Plan) -> ConfirmedPhase:
    prediction = runs.contender.prediction
    own = [each.inference.online for each in runs.done]
    servers = [each.revealed.server for each in runs.done]
    return _phase(own, servers, planned.layers, planned.online_traffic, prediction.layers, prediction)


def _offline(runs: Runs, planned: Plan) -> ConfirmedPhase | None:
    own = [each.inference.offline for each in runs.done if each.inference.offline is not None]
    if not own:
        return None
    prediction = runs.contender.prediction
    servers = [each.revealed.server_offline for each in runs.done]
    return _phase(own, servers, planned.offline, planned.offline_traffic, prediction.offline, prediction)


def _phase(
    own: Sequence[Phase],
    servers: Sequence[tuple[LayerTimes, ...]],
    planned: tuple[LayerPlan, ...],
    traffic: Traffic,
    predicted: tuple[LayerPrediction, ...],
    prediction: Prediction,
) -> ConfirmedPhase:
    by_image = [
        [layer_components(*times) for times in zip(phase.layers, server, planned, strict=True)]
        for phase, server in zip(own, servers, strict=True)
    ]
    layers = tuple(
        ConfirmedLayer(layer.name, layer.components, medians([image[index] for image in by_image]))
        for index, layer in enumerate(predicted)
    )
    seconds = [phase.latency_s for phase in own]
    up, down = traffic.bytes_sent, traffic.bytes_received
    return ConfirmedPhase(
        timing=_timing(predicted, prediction, seconds),
        predicted=added(*(layer.components for layer in predicted)),
        measured=medians([added(*image) for image in by_image]),
        layers=layers,
        bytes_up=own[0].traffic.bytes_sent,
        bytes_down=own[0].traffic.bytes_received,
        planned_bytes_up=up,
        planned_bytes_down=down,
        bytes_as_planned=all((each.traffic.bytes_sent, each.traffic.bytes_received) == (up, down) for each in own),
        seconds=tuple(seconds),
    )


def layer_components(client: LayerTimes, server: LayerTimes, planned: LayerPlan) -> Components:
    """Seconds of one layer by component, from both parties' clocks.

    The client waits in its channel while the server works, so the link is what of that the server does not account for.
    """
    return Components(
        client_he_s=client.he_s,
        server_he_s=server.he_s,
        ot_s=client.ot_s + server.ot_s,
        garble_s=server.gc_s,
        evaluate_s=client.gc_s,
        link_s=link_seconds(client, server, planned),
        clear_s=client.clear_s + server.clear_s,
        spill_s=client.spill_s + server.spill_s,
        other_s=client.other_s,
        overlapped_s=overlap(client, server, planned),
    )


def _timing(predicted: Sequence[LayerPrediction], prediction: Prediction, seconds: Sequence[float]) -> Timing:
    """Of a phase, whose interval is as wide as that of the whole."""
    typical = sum(layer.components.total_s for layer in predicted)
    low, high = median_interval(seconds) or (None, None)
    return Timing(
        predicted_s=typical,
        predicted_low_s=typical * prediction.low_s / prediction.latency_s,
        predicted_high_s=typical * prediction.high_s / prediction.latency_s,
        predicted_quiet_s=min(typical, sum(layer.quiet_s for layer in predicted)),
        measured_s=float(np.median(seconds)),
        measured_low_s=low,
        measured_high_s=high,
        measured_quiet_s=quiet(seconds),
    )


def _total(runs: Runs, online: ConfirmedPhase, offline: ConfirmedPhase) -> Timing:
    prediction = runs.contender.prediction
    seconds = [sum(both) for both in zip(online.seconds, offline.seconds, strict=True)]
    return _timing((*prediction.layers, *prediction.offline), prediction, seconds)
