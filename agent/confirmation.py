"""Confirmation: policies run for real, between two processes, interleaved, and put beside their predictions.

Every inference is also checked: the server is started for testing and opens its shares *after* the clock has stopped,
so that each decryption error is seen, and the logits must be exactly the integer reference with those errors.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from autoprivacy.common.errors import BadInput, ProtocolError
from autoprivacy.common.records import record, save
from autoprivacy.models.prediction import Components, Prediction
from autoprivacy.networks import reference
from autoprivacy.networks.integer_network import QuantisedNetwork
from autoprivacy.profiler.harness import calls_per_block, reference_operation, time_block
from autoprivacy.profiler.layers import component_seconds
from autoprivacy.profiler.statistics import median_interval, quiet
from autoprivacy.protocol.agreement import Agreement
from autoprivacy.protocol.error_model import (
    FAILURE_BITS,
    DecryptionError,
    decryption_errors,
    network_failure_bits,
)
from autoprivacy.protocol.plan import LayerPlan, plan_network
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.session import Client, Inference, Revealed
from autoprivacy.protocol.slot_packing import SlotLayout
from autoprivacy.protocol.transport import load_key, new_key

WARM_UP: Final = 2
SIGMAS: Final = 6.0


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy to be run: its label in reports, the network at its widths, and what is predicted."""

    label: str
    policy: Policy
    agreement: Agreement
    network: QuantisedNetwork
    prediction: Prediction


@record
class Confirmed:
    """What one policy did on `images` images.

    `logits_equal` counts images whose logits equal the integer reference without errors, `logits_explained` those that
    equal it with exactly the decryption errors that were seen; `errors_expected` is the model's mean for `errors_seen`.
    """

    label: str
    images: int
    correct: int
    logits_equal: int
    logits_explained: int
    errors_seen: int
    errors_expected: float
    error_free: bool
    predicted_s: float
    predicted_low_s: float
    predicted_high_s: float
    predicted_quiet_s: float
    measured_s: float
    measured_low_s: float | None
    measured_high_s: float | None
    measured_quiet_s: float
    setup_s: float
    within_interval: bool
    predicted_components: Components
    measured_components: Components
    bytes_up: int
    bytes_down: int
    bytes_as_planned: bool


@record
class Verdict:
    """The first policy against the second: how many times as fast, paired per image, with a 95 % interval.

    The interval is None below six images.
    """

    faster: Literal["first", "second", "not distinguishable"]
    ratio: float
    ratio_low: float | None
    ratio_high: float | None


@record
class Confirmation:
    """All policies, and the verdict on the first two where there are two.

    `drift` is how many times as long the reference operation took as in the profile; a measurement is divided by it
    before `within_interval` is judged.
    """

    policies: tuple[Confirmed, ...]
    verdict: Verdict | None
    drift: float


def confirm(
    contenders: Sequence[Contender],
    network: str,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    reference_typical_s: float,
    rng: np.random.Generator,
    progress: Callable[[], None],
    data_file: Path | None = None,
) -> Confirmation:
    """Run every contender on every image, in random order within each image.

    `reference_typical_s` is what the profile's reference operation took; it runs again between inferences, so that the
    machine's drift since the profile is seen and divided out of the comparison with the prediction.

    Raises:
        ProtocolError: if a server process fails.
    """
    if len(images) < 1 or len(images) != len(labels):
        raise BadInput(f"{len(images)} images and {len(labels)} labels: give as many of both, at least one")
    runs: list[list[tuple[Inference, Revealed]]] = [[] for _ in contenders]
    reference = reference_operation()
    calls = calls_per_block(reference)
    blocks: list[float] = []
    with ExitStack() as stack:
        clients = [stack.enter_context(running(each.policy, each.agreement, network, data_file)) for each in contenders]
        for client in clients:
            for image in images[:WARM_UP]:
                client.infer(image)
        for image in images:
            for index in rng.permutation(len(clients)):
                blocks.append(time_block(reference, calls))
                runs[index].append(clients[index].infer_revealed(image))
                progress()
        setups = [client.setup_s for client in clients]
    drift = float(np.median(blocks)) / reference_typical_s
    policies = tuple(
        _summary(contender, done, images, labels, setup_s=setup, drift=drift)
        for contender, done, setup in zip(contenders, runs, setups, strict=True)
    )
    verdict = _verdict(*([run.latency_s for run, _ in done] for done in runs[:2])) if len(contenders) > 1 else None
    return Confirmation(policies, verdict, drift)


@contextmanager
def running(policy: Policy, agreement: Agreement, network: str, data_file: Path | None = None) -> Iterator[Client]:
    """A client of a fresh server process on loopback, which ends with the context."""
    with tempfile.TemporaryDirectory() as folder:
        key, file = Path(folder) / "key", Path(folder) / "policy.json"
        new_key(key)
        save(policy, file)
        command = [sys.executable, "-m", "autoprivacy.protocol.serving", network, str(file), str(key)]
        command += [] if data_file is None else [str(data_file)]
        log = Path(folder) / "server.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C reaches only this process, which then ends the server
            ) as server,
        ):
            try:
                assert server.stdout is not None  # noqa: S101 - it was asked for
                address = server.stdout.readline().strip().removeprefix("listening on ")
                if not address:
                    said = log.read_text().strip().splitlines() or ["nothing"]
                    raise ProtocolError(f"the server process ended before it listened; it said: {said[-1]}")
                with Client(address, load_key(key), expected=agreement) as client:
                    yield client
                server.wait(timeout=30)
            finally:
                server.kill()


def _summary(
    contender: Contender,
    runs: Sequence[tuple[Inference, Revealed]],
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    setup_s: float,
    drift: float,
) -> Confirmed:
    network, prediction = contender.network, contender.prediction
    inputs = network.quantise_input(images)
    clean = reference.logits(network, inputs)
    errors = [seen_errors(network, x, revealed) for x, (_, revealed) in zip(inputs, runs, strict=True)]
    together = {name: np.stack([seen[name] for seen in errors]) for name in errors[0]}
    explained = reference.logits(network, inputs, errors=together)
    got = np.stack([run.logits for run, _ in runs])
    models = decryption_errors(network, contender.agreement)
    plausible = _plausible(models, together)
    expected = sum(model.expected_errors for model in models.values())
    latencies = [run.latency_s for run, _ in runs]
    low, high = median_interval(latencies) or (None, None)
    measured = float(np.median(latencies))
    planned = plan_network(contender.network, contender.agreement)
    up, down = runs[0][0].bytes_up, runs[0][0].bytes_down
    return Confirmed(
        label=contender.label,
        images=len(images),
        correct=int((got.argmax(axis=1) == labels).sum()),
        logits_equal=int((got == clean).all(axis=1).sum()),
        logits_explained=int(((got == explained).all(axis=1) & plausible).sum()),
        errors_seen=int(sum((seen != 0).sum() for seen in together.values())),
        errors_expected=expected * len(images),
        error_free=network_failure_bits(models) >= FAILURE_BITS,
        predicted_s=prediction.latency_s,
        predicted_low_s=prediction.low_s,
        predicted_high_s=prediction.high_s,
        predicted_quiet_s=prediction.quiet_s,
        measured_s=measured,
        measured_low_s=low,
        measured_high_s=high,
        measured_quiet_s=quiet(latencies),
        setup_s=setup_s,
        within_interval=prediction.low_s <= measured / drift <= _highest_s(prediction, drift),
        predicted_components=_add([layer.components for layer in prediction.layers]),
        measured_components=_median_components(runs, planned.layers),
        bytes_up=up,
        bytes_down=down,
        bytes_as_planned=all((r.bytes_up, r.bytes_down) == (planned.bytes_up, planned.bytes_down) for r, _ in runs),
    )


def _highest_s(prediction: Prediction, drift: float) -> float:
    """The upper end that a measurement is judged by, its drift divided out.

    In a spell of slow-down the reference operation does not slow down as much as everything else, so the machine's own
    slow-down is allowed for as well.
    """
    if drift <= 1:
        return prediction.high_s
    return prediction.high_s * prediction.busy_s / prediction.latency_s


def seen_errors(network: QuantisedNetwork, x: NDArray[np.int64], revealed: Revealed) -> dict[str, NDArray[np.int64]]:
    """Decryption errors of one inference by layer (M, H', W'): opened accumulators minus the layer's true output.

    Each layer is judged on the activations that the opened accumulators before it give, so errors do not add up.
    """
    errors = {}
    activations = x[None]
    for stage in network.stages:
        opened = revealed.accumulators[stage.name].reshape(1, *stage.output_shape)
        errors[stage.name] = (opened - reference.linear(stage, activations).reshape(opened.shape))[0]
        if stage.requantise is not None:
            activations = reference.requantise(stage.requantise, opened)
    return errors


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


def _add(parts: Sequence[Components]) -> Components:
    return Components(**{name: sum(getattr(part, name) for part in parts) for name in Components.__dataclass_fields__})


def _median_components(runs: Sequence[tuple[Inference, Revealed]], planned: Sequence[LayerPlan]) -> Components:
    """Medians over inferences; the link includes waking up."""
    rows = [component_seconds(run, revealed, planned) for run, revealed in runs]
    return Components(**{name: float(np.median([row[name] for row in rows])) for name in rows[0]})


def _verdict(first: list[float], second: list[float]) -> Verdict:
    """From the ratio second / first per image, with a distribution-free interval of its median."""
    ratios = np.array(second) / np.array(first)
    low, high = median_interval(ratios.tolist()) or (None, None)
    faster: Literal["first", "second", "not distinguishable"] = "not distinguishable"
    if low is not None and low > 1:
        faster = "first"
    elif high is not None and high < 1:
        faster = "second"
    return Verdict(faster, float(np.median(ratios)), low, high)
