"""Seconds of a network's inference, from its plan on a deployment: the sum of its parts, with an interval.

Every part is a term of one layer, so that a search can tabulate it exactly: the HE of both parties, oblivious transfer,
garbling, evaluation, and the link. Within a layer each party waits for the other's message; but tables are garbled,
sent, and evaluated (or kept) piece after piece, so most of that takes as long as the slowest of these.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import ceil

from autoprivacy.common.records import record
from autoprivacy.hwprofiles.machine_profile import Seconds
from autoprivacy.models.layer_model import added, apart, hidden_s, part_of, waited_s
from autoprivacy.models.link_model import LinkModel
from autoprivacy.models.machine_model import MachineModel, Predictor
from autoprivacy.models.operation_model import EXTRAPOLATION
from autoprivacy.protocol.garbling import LABEL_BYTES, PIECE_BYTES
from autoprivacy.protocol.plan import LayerPlan, Plan, Work

SERVER_PARTS = frozenset(
    {"server_he_s", "server_ot_s", "garble_s", "server_clear_s", "server_spill_s", "server_setup_s"}
)
"""Parts that the server's machine decides; the client's machine decides the others."""


STAGES = (("garble_s",), ("evaluate_s", "client_spill_s"))
"""What the server, and the client, do to circuits, piece after piece."""


@dataclass(frozen=True)
class Deployment:
    """A server machine, a client machine, and the link between them; without one, the client's loopback."""

    server: MachineModel
    client: MachineModel
    link: LinkModel | None = None
    workers: int = 1

    @cached_property
    def server_predictor(self) -> Predictor:
        """The server's model, ready to be asked."""
        return self.server.over(self.round_trip_s).predictor()

    @cached_property
    def client_predictor(self) -> Predictor:
        """The client's model, ready to be asked."""
        return self.client.over(self.round_trip_s).predictor()

    @property
    def far_link(self) -> LinkModel | None:
        """The link, unless it is a machine's own loopback."""
        return None if self.link is None or self.link.loopback else self.link

    @property
    def round_trip_s(self) -> float:
        """Of an empty message and its answer; 0 over loopback."""
        return 0.0 if self.far_link is None else 2 * self.far_link.half_trip.typical_s

    def predictor(self, part: str) -> Predictor:
        """The model of the machine that decides a part."""
        return self.server_predictor if part in SERVER_PARTS else self.client_predictor

    @property
    def slowdown_median(self) -> float:
        """How slow the slower of both machines typically was, over its quiet speed."""
        return max(self.server.slowdown_median, self.client.slowdown_median)


@record
class Components:
    """Typical seconds by component; `clear_s` and `spill_s` are of schedule `preprocessed`.

    `other_s` is the client's between its operations.
    """

    client_he_s: float
    server_he_s: float
    ot_s: float
    garble_s: float
    evaluate_s: float
    link_s: float
    clear_s: float = 0.0
    spill_s: float = 0.0
    other_s: float = 0.0
    overlapped_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Their sum, what is done at the same time (`overlapped_s`) once."""
        he = self.client_he_s + self.server_he_s + self.clear_s
        circuits = self.ot_s + self.garble_s + self.evaluate_s - self.overlapped_s
        return he + circuits + self.link_s + self.spill_s + self.other_s


def used_components(*parts: Components) -> list[str]:
    """Names of the components that any of these takes, in order."""
    return [name for name in Components.__dataclass_fields__ if any(getattr(part, name) for part in parts)]


@record
class LayerPrediction:
    """One layer: typical seconds by component with their interval (95 %), and the quiet total."""

    name: str
    components: Components
    quiet_s: float
    low_s: float
    high_s: float


@record
class Prediction:
    """One inference.

    `latency_s` is typical, from image to logits: what the machines take at the speed that they typically had when they
    were profiled. `offline_s` is what schedule `preprocessed` does ahead of each image (by layer in `offline`),
    `setup_s` what a session does once. [`low_s`, `high_s`] should hold the median of a measurement at that speed in
    80 % of cases, [`offline_low_s`, `offline_high_s`] likewise; `quiet_s` is what undisturbed machines take, `busy_s`
    what they take in their slowest 5 %. Memory is beyond an idle interpreter, spills are files. `extrapolated` says
    what was asked for beyond what was measured, and in what.
    """

    latency_s: float
    low_s: float
    high_s: float
    quiet_s: float
    busy_s: float
    offline_s: float
    offline_low_s: float
    offline_high_s: float
    setup_s: float
    layers: tuple[LayerPrediction, ...]
    offline: tuple[LayerPrediction, ...]
    bytes_up: int
    bytes_down: int
    offline_bytes_up: int
    offline_bytes_down: int
    setup_bytes_up: int
    setup_bytes_down: int
    memory_server_bytes: int
    memory_client_bytes: int
    spill_server_bytes: int
    spill_client_bytes: int
    extrapolated: tuple[str, ...]


INPUT_SIDE = frozenset({"receive", "receive_add_share", "to_ntt", "rotate"})
"""What a worker does for every input that its responses read; rotations of responses are counted here too."""

OUTPUT_SIDE = frozenset({"weighted_sum", "from_ntt", "swap_rows", "add", "respond"})


def of_one_worker(work: Iterable[Work], together: int, workers: int) -> tuple[Work, ...]:
    """A layer's work where its HE at the server is that of the busiest of so many workers.

    Responses are split in order, as evenly as can be; workers that share inputs each handle them.
    """
    works = tuple(work)
    responses = sum(each.calls for each in works if each.operation == "respond")
    if workers == 1 or not responses:
        return works
    ends = [worker * responses // workers for worker in range(workers + 1)]
    parts = [(first, last) for first, last in pairwise(ends) if last > first]
    groups = max((last - 1) // together - first // together + 1 for first, last in parts)
    shares = dict.fromkeys(INPUT_SIDE, groups / ceil(responses / together))
    shares |= dict.fromkeys(OUTPUT_SIDE, max(last - first for first, last in parts) / responses)
    return tuple(_shared(each, shares.get(each.operation, 1.0)) for each in works)


def _shared(work: Work, share: float) -> Work:
    if share == 1:
        return work
    calls, items, size = (ceil(share * count) for count in (work.calls, work.items, work.bytes))
    return replace(work, calls=calls, items=items, bytes=size)


def layer_seconds(work: Iterable[Work], deployment: Deployment, *, first: bool = False) -> dict[str, Seconds]:
    """Corrected seconds of one layer's parts, by part, at quiet speed; typical ones with their own disturbances.

    `first` is the first layer of an inference.

    Raises:
        UnmodelledOperation: if the deployment's profiles lack an operation.
    """
    works = tuple(work)
    found: dict[str, Seconds] = {}
    for predictor, at_server in ((deployment.client_predictor, False), (deployment.server_predictor, True)):
        mine = [each for each in works if (part_of(each) in SERVER_PARTS) == at_server]
        for (part, _), seconds in predictor.layer(mine, first=first).items():
            before = found.get(part, Seconds(0.0, 0.0))
            found[part] = Seconds(before.quiet_s + seconds.quiet_s, before.typical_s + seconds.typical_s)
    if transfers := [each for each in works if each.operation == "transfer"]:
        if deployment.far_link is None:
            waited = waited_s(works, deployment.server_predictor.seconds)
            found["link_s"] = deployment.client_predictor.messages(transfers, first=first, waited_s=waited)
        else:
            found["link_s"] = _over(deployment.far_link, transfers)
    return found


def _over(link: LinkModel, transfers: list[Work]) -> Seconds:
    """Seconds of a layer's messages over a link that was measured or declared."""
    each = [
        link.message(transfer.bytes, up=transfer.state == "up", waited_for=waited_for)
        for waited_for, own in zip((True, False), apart(transfers), strict=True)
        for transfer in own
    ]
    return Seconds(sum(one.quiet_s for one in each), sum(one.typical_s for one in each))


def tables_s(work: Iterable[Work], deployment: Deployment) -> Seconds:
    """Seconds that a link's rate takes for garbled tables; over loopback the machines' own work is all there is."""
    link = deployment.far_link
    if link is None:
        return Seconds(0.0, 0.0)
    return added((each for each in work if each.operation == "garble"), lambda each: link.down(each.bytes))


def predict_layer(layer: LayerPlan, deployment: Deployment, *, first: bool = False) -> LayerPrediction:
    """The time of one layer, the `first` of an inference or another: its components, each corrected.

    Raises:
        UnmodelledOperation: if the deployment's profiles lack an operation.
    """
    parts = layer_seconds(of_one_worker(layer.work, layer.together, deployment.workers), deployment, first=first)
    parts["other_s"] = deployment.client_predictor.other(first=first)
    if "server_he_s" in parts:
        own, factor = parts["server_he_s"], deployment.server.slowdown_of(deployment.workers)
        parts["server_he_s"] = Seconds(factor * own.quiet_s, factor * own.typical_s)
    slowdown = deployment.slowdown_median

    def typical(*names: str) -> float:
        return slowdown * sum(parts[name].typical_s for name in names if name in parts)

    def quiet(name: str) -> float:
        return parts[name].quiet_s if name in parts else 0.0

    link_s = parts["link_s"].typical_s if "link_s" in parts else 0.0
    components = Components(
        client_he_s=typical("client_he_s"),
        server_he_s=typical("server_he_s"),
        ot_s=typical("client_ot_s", "server_ot_s"),
        garble_s=typical("garble_s"),
        evaluate_s=typical("evaluate_s"),
        link_s=slowdown * link_s if deployment.far_link is None else link_s,
        clear_s=typical("server_clear_s"),
        spill_s=typical("server_spill_s", "client_spill_s"),
        other_s=typical("other_s"),
        overlapped_s=hidden_s(
            layer.work, [*(typical(*own) for own in STAGES), tables_s(layer.work, deployment).typical_s]
        ),
    )
    hidden = hidden_s(layer.work, [*(sum(map(quiet, own)) for own in STAGES), tables_s(layer.work, deployment).quiet_s])
    # What a link takes makes a layer longer, but what is known of its machines no better.
    own_s = components.total_s - (0.0 if deployment.far_link is None else components.link_s)
    spreads = (deployment.server_predictor.layer_spread, deployment.client_predictor.layer_spread)
    doubt = max(spread.half_width(own_s / slowdown) for spread in spreads)
    if _beyond(layer.work, deployment):
        doubt *= EXTRAPOLATION
    return LayerPrediction(
        name=layer.name,
        components=components,
        quiet_s=sum(each.quiet_s for each in parts.values()) - hidden,
        low_s=components.total_s / (1 + doubt),
        high_s=components.total_s * (1 + doubt),
    )


def predict(plan: Plan, deployment: Deployment) -> Prediction:
    """The latency of one inference; the interval is what the model errs by on whole inferences it has not seen.

    Raises:
        UnmodelledOperation: if the deployment's profiles lack an operation.
    """
    layers, offline = (
        tuple(predict_layer(layer, deployment, first=layer is phase[0]) for layer in phase)
        for phase in (plan.layers, plan.offline)
    )
    quiet = sum(layer.quiet_s for layer in layers)
    typical = sum(layer.components.total_s for layer in layers)
    everything = (*(layer.work for layer in (*plan.layers, *plan.offline)), plan.setup)
    extrapolated = sorted({name for work in everything for name in _beyond(work, deployment)})
    doubt = max(deployment.server_predictor.network_doubt, deployment.client_predictor.network_doubt)
    if extrapolated:
        doubt *= EXTRAPOLATION
    setup = layer_seconds(plan.setup, deployment)
    ahead_s = sum(layer.components.total_s for layer in offline)
    ahead, largest = plan.offline_traffic, max(_piece_bytes(layer) for layer in (*plan.layers, *plan.offline))
    return Prediction(
        latency_s=typical,
        low_s=typical / (1 + doubt),
        high_s=typical * (1 + doubt),
        quiet_s=min(quiet, typical),
        busy_s=max(typical, _busy_s(plan, quiet, deployment)),
        offline_s=ahead_s,
        offline_low_s=ahead_s / (1 + doubt),
        offline_high_s=ahead_s * (1 + doubt),
        setup_s=deployment.slowdown_median * sum(each.typical_s for each in setup.values()),
        layers=layers,
        offline=offline,
        bytes_up=plan.bytes_up,
        bytes_down=plan.bytes_down,
        offline_bytes_up=ahead.bytes_sent,
        offline_bytes_down=ahead.bytes_received,
        setup_bytes_up=plan.setup_bytes_up,
        setup_bytes_down=plan.setup_bytes_down,
        memory_server_bytes=plan.key_bytes + largest + sum(each.weight_bytes for each in (*plan.layers, *plan.offline)),
        memory_client_bytes=largest,
        spill_server_bytes=plan.server_spill_bytes,
        spill_client_bytes=plan.client_spill_bytes,
        extrapolated=tuple(extrapolated),
    )


def _busy_s(plan: Plan, quiet_s: float, deployment: Deployment) -> float:
    """A spell slows machines down, and what their own loopback takes; any other link is as before."""
    slowdown = max(deployment.server.slowdown_p95, deployment.client.slowdown_p95)
    if deployment.far_link is None:
        return slowdown * quiet_s
    works = (work for layer in plan.layers for work in layer.work if work.operation == "transfer")
    link_s = min(quiet_s, _over(deployment.far_link, list(works)).quiet_s)
    return slowdown * (quiet_s - link_s) + link_s


def _piece_bytes(layer: LayerPlan) -> int:
    """About what either party holds at once for one layer: ciphertexts, transfers and labels, a piece of tables."""
    labels = sum(LABEL_BYTES * circuit.instances * circuit.client_bits for circuit in layer.circuits)
    tables = sum(work.bytes for work in layer.work if work.operation == "garble")
    return (
        labels
        + min(tables, 2 * PIECE_BYTES)
        + max((w.bytes for w in layer.work if w.operation == "respond"), default=0)
    )


def _beyond(works: Iterable[Work], deployment: Deployment) -> set[str]:
    """What of some work lies beyond what was measured: operation, and in what."""
    found = set()
    for work in works:
        if work.operation == "transfer" and deployment.far_link is not None:
            continue
        model = deployment.predictor(part_of(work)).operation(work)
        if work.operation == "respond" and model.variant != work.privacy:
            found.add(f"respond under {work.privacy}, priced as under {model.variant}")
        if outside := model.beyond(work):
            found.add(f"{model.key} ({', '.join(outside)})")
    return found
