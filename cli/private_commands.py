"""`serve` and `infer`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autoprivacy.cli.console import err, milliseconds, print_json, say
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import record
from autoprivacy.protocol.serving import load_agreed
from autoprivacy.protocol.serving import serve as serve_forever
from autoprivacy.protocol.session import Client, LayerTimes, Phase, Schedule, Server
from autoprivacy.protocol.shaping import EmulatedLink
from autoprivacy.protocol.tls import TlsEnd, client_end, server_end
from autoprivacy.protocol.transport import Route, load_key, parse_address

if TYPE_CHECKING:
    from numpy.typing import NDArray


def serve(
    network: str,
    policy_file: Path,
    key_file: Path,
    listen: str,
    certificate: Path | None,
    certificate_key: Path | None,
    timeout_s: float,
    *,
    once: bool,
    reveal_for_testing: bool,
    workers: int,
    weight_budget_bytes: int,
    clients: int,
    spill_dir: Path | None,
    data_file: Path | None,
) -> None:
    """Serve until interrupted; the address is the first line on standard output."""
    tls = _server_tls(certificate, certificate_key)
    parse_address(listen, secured=tls is not None)
    _, quantised, agreement = load_agreed(network, policy_file, data_file)
    server = Server(
        quantised,
        agreement,
        load_key(key_file),
        reveal_for_testing=reveal_for_testing,
        workers=workers,
        weight_budget_bytes=weight_budget_bytes,
        spill_dir=spill_dir,
    )
    if reveal_for_testing:
        err.print(
            "autoprivacy: --reveal-for-testing opens all shares to clients that ask; never use it with real inputs"
        )
    serve_forever(server, listen, _report, once=once, tls=tls, timeout_s=timeout_s, clients=clients)


def serve_link(
    key_file: Path,
    listen: str,
    certificate: Path | None,
    certificate_key: Path | None,
    timeout_s: float,
    profile: str | None,
    *,
    once: bool,
) -> None:
    """Let clients measure the link, and hand out this machine's profile; the address is the first line."""
    from autoprivacy.hwprofiles import machine_profile
    from autoprivacy.hwprofiles.exchange import export
    from autoprivacy.profiler.link_protocol import serve_profiles

    tls = _server_tls(certificate, certificate_key)
    content = b"" if profile is None else export(machine_profile.find(profile))
    serve_profiles(listen, load_key(key_file), content, _report, once=once, tls=tls, timeout_s=timeout_s)


def _server_tls(certificate: Path | None, certificate_key: Path | None) -> TlsEnd | None:
    if (certificate is None) != (certificate_key is None):
        raise BadInput("--certificate and --certificate-key belong together; `autoprivacy certificate new` makes both")
    return None if certificate is None or certificate_key is None else server_end(certificate, certificate_key)


def _report(line: str) -> None:
    (sys.stdout if line.startswith("listening") else sys.stderr).write(line + "\n")
    sys.stdout.flush()


@record
class OfflineReport:
    """What was done before there was an image; `layers` is this party's time."""

    latency_s: float
    bytes_up: int
    bytes_down: int
    round_trips: int
    layers: tuple[LayerTimes, ...]


@record
class InferenceReport:
    """What `infer --json` prints; logits in the network's own units.

    `latency_s`, bytes and round trips are from image to logits; those of `offline` came before, null in schedule
    `online`. `layers` is this party's time. `emulated_link` is null where times are those of the real link.
    """

    network: str
    schedule: Schedule
    logits: tuple[float, ...]
    label: int
    setup_s: float
    latency_s: float
    bytes_up: int
    bytes_down: int
    round_trips: int
    layers: tuple[LayerTimes, ...]
    offline: OfflineReport | None
    tls: bool
    emulated_link: EmulatedLink | None


def infer(
    peer: str,
    key_file: Path,
    input_file: Path,
    certificate: Path | None,
    timeout_s: float,
    emulate_rate_mbit: float | None,
    emulate_rtt_ms: float | None,
    *,
    schedule: Schedule,
    spill_dir: Path | None,
    json: bool,
) -> None:
    """Infer one image."""
    route = Route(
        tls=None if certificate is None else client_end(certificate),
        emulated=_emulated(emulate_rate_mbit, emulate_rtt_ms),
        timeout_s=timeout_s,
    )
    image = _image(input_file)
    with Client(peer, load_key(key_file), route=route, schedule=schedule, spill_dir=spill_dir) as client:
        inference = client.infer(image)
        agreement = client.agreement
    offline = inference.offline
    report = InferenceReport(
        network=agreement.network,
        logits=tuple(float(value) * agreement.logit_scale for value in inference.logits),
        label=int(inference.logits.argmax()),
        schedule=schedule,
        setup_s=inference.setup_s,
        latency_s=inference.latency_s,
        bytes_up=inference.bytes_up,
        bytes_down=inference.bytes_down,
        round_trips=inference.online.traffic.round_trips,
        layers=inference.online.layers,
        offline=None if offline is None else _offline(offline),
        tls=route.tls is not None,
        emulated_link=route.emulated,
    )
    if json:
        print_json(report)
        return
    say(f"label {report.label}, logits {' '.join(f'{value:.3f}' for value in report.logits)}")
    ahead = "" if report.offline is None else f" and {milliseconds(report.offline.latency_s)} of preparation"
    say(
        f"{milliseconds(report.latency_s)} after {milliseconds(report.setup_s)} of set-up{ahead}; "
        f"{report.bytes_up:,} bytes up, {report.bytes_down:,} down"
    )
    if report.offline is not None:
        say(f"prepared with {report.offline.bytes_up:,} bytes up, {report.offline.bytes_down:,} down")
    if route.emulated is not None:
        say(
            f"over an EMULATED link of {route.emulated.rate_bytes_per_s / 125_000:g} Mbit/s each way "
            f"and {milliseconds(2 * route.emulated.one_way_s)} of round trip"
        )


def _offline(phase: Phase) -> OfflineReport:
    passed = phase.traffic
    return OfflineReport(phase.latency_s, passed.bytes_sent, passed.bytes_received, passed.round_trips, phase.layers)


def _emulated(rate_mbit: float | None, rtt_ms: float | None) -> EmulatedLink | None:
    if rate_mbit is None and rtt_ms is None:
        return None
    if rate_mbit is None or rtt_ms is None:
        raise BadInput("--emulate-rate-mbit and --emulate-rtt-ms belong together; give both")
    return EmulatedLink(rate_bytes_per_s=rate_mbit * 125_000, one_way_s=rtt_ms / 2000)


def _image(path: Path) -> "NDArray[np.float64]":
    try:
        with path.open("rb") as file:
            found = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); name an .npy file with one image") from None
    # A hostile header makes numpy raise almost anything: SyntaxError, MemoryError, tokenize errors.
    except Exception:  # noqa: BLE001
        raise BadInput(f"{path}: not an .npy file of numbers; write one with numpy.save") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise BadInput(f"{path}: holds no array of numbers; write one float image (C, H, W) with numpy.save")
    # Data sets keep images in batches.
    return (found[0] if found.ndim == 4 and len(found) == 1 else found).astype(np.float64)
