"""`profile` and `profiles`."""

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.cli.console import err, milliseconds, print_json, progress, say, table
from autoprivacy.common.errors import BadInput, ProfileMismatch
from autoprivacy.common.files import check_writable, write_atomic
from autoprivacy.common.records import record
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.hwprofiles.exchange import export, import_bytes, import_file, read_any, write_any
from autoprivacy.hwprofiles.header import Header
from autoprivacy.hwprofiles.link_profile import LinkHeader, LinkProfile, read_link, write_link
from autoprivacy.hwprofiles.machine_profile import MachineProfile, folder_of
from autoprivacy.profiler.check import check
from autoprivacy.profiler.comparison import KINDS, Comparison, compare
from autoprivacy.profiler.end_to_end import end_to_end
from autoprivacy.profiler.link import STEPS, LinkMeter, measure_link
from autoprivacy.profiler.profile import profile_machine
from autoprivacy.protocol.tls import client_end
from autoprivacy.protocol.transport import Route, load_key, parse_address

BAR: Final = 40
SHOWN: Final = 30


@record
class Listed:
    """What `profiles list --json` prints."""

    machines: tuple[Header, ...]
    links: tuple[LinkHeader, ...]


def profile(name: str, folder: Path, depth: str, *, seed: int, resume: bool, json: bool) -> None:
    """Measure this machine and store the profile."""
    _check_name(name)
    measured = profile_machine(name, folder / name, depth, progress, seed=seed, resume=resume)
    err.print(f"profile written to {folder / name}")
    _show(measured, json=json)


def profile_link(
    name: str,
    folder: Path,
    depth: str,
    peer: str,
    key_file: Path,
    certificate: Path | None,
    client: str | None,
    *,
    json: bool,
) -> None:
    """Measure the link to a peer, and fetch the peer's machine profile."""
    _check_name(name)
    check_writable(folder / name / "link.json")
    route = Route(tls=client_end(certificate) if certificate else None)
    key = load_key(key_file)
    mine = machine_profile.find(client) if client else None
    meter = LinkMeter(peer, key, route)
    try:
        theirs = _peer_profile(meter)
        with progress("measuring the link", STEPS[depth]) as advance:
            loopback = _is_loopback(peer)
            found = measure_link(meter, name, depth, advance, route=route, loopback=loopback)
    finally:
        meter.close()
    header = dataclasses.replace(
        found.header,
        client_profile=mine.header.id if mine else "",
        server_profile=theirs.header.id if theirs else "",
    )
    link = LinkProfile(header, found.transfers)
    if theirs is not None:
        machine_profile.write(theirs, folder / f"{name}-peer")
        err.print(f"the peer's machine profile written to {folder / f'{name}-peer'}")
    write_link(link, folder / name)
    err.print(f"link profile written to {folder / name}")
    _show(link, json=json)


def _peer_profile(meter: LinkMeter) -> MachineProfile | None:
    """What the peer hands out, if anything, checked before time is spent on the link."""
    content = meter.peer_profile()
    if not content:
        return None
    found = import_bytes(content, "the peer's profile")
    if isinstance(found, LinkProfile):
        raise BadInput("the peer's profile is a link's; start it with the name of a machine profile")
    return found


def _is_loopback(peer: str) -> bool:
    try:
        parse_address(peer)
    except BadInput:
        return False
    return True


def _check_name(name: str) -> None:
    if (
        not name
        or name.startswith(".")
        or not name.isprintable()
        or any(each in name for each in "/\\")
        or len(name) > 80
    ):
        raise BadInput(f"{name[:80]!r} is no name for a profile; use letters, digits, - and _")


def list_profiles(*, json: bool) -> None:
    """Profiles that can be found by name."""
    machines = [machine_profile.read(folder).header for folder in machine_profile.stored()]
    links = [read_link(folder).header for folder in machine_profile.stored("link.json")]
    if json:
        print_json(Listed(tuple(machines), tuple(links)))
        return
    table(
        "machine profiles",
        ["name", "measured", "depth", "cpu", "cores", "verdict"],
        [[h.name, h.measured_on, h.depth, h.machine.cpu, str(h.machine.cores), h.conditions.verdict] for h in machines],
    )
    table(
        "links",
        ["name", "kind", "round trip", "up, Mbit/s", "down, Mbit/s"],
        [
            [
                h.name,
                h.kind,
                milliseconds(h.summary.round_trip_s),
                f"{8e-6 * h.summary.rate_up_bytes_per_s:.4g}",
                f"{8e-6 * h.summary.rate_down_bytes_per_s:.4g}",
            ]
            for h in links
        ],
    )


def show_profile(name: str, *, json: bool) -> None:
    """One profile, of a machine or a link."""
    _show(read_any(folder_of(name, "profile.json", "link.json")), json=json)


def _show(profile: MachineProfile | LinkProfile, *, json: bool) -> None:
    if json:
        print_json(profile)
    elif isinstance(profile, LinkProfile):
        _show_link(profile)
    else:
        _show_machine(profile)


def _show_machine(profile: MachineProfile) -> None:
    header, slow = profile.header, profile.header.conditions
    machine = header.machine
    say(
        f"{header.name} ({header.depth}): {machine.cpu}, {machine.cores} cores, AES {machine.aes_path}, "
        f"rings {machine.ring_path}"
    )
    say(
        f"{slow.verdict}: the reference operation took {slow.reference_slowdown_median:.2f} times its quiet time "
        f"at the median, {slow.reference_slowdown_p95:.2f} at the 95 % quantile"
    )
    for reason in slow.reasons:
        say(f"  {reason}")
    rows = [
        [
            s.operation,
            s.kernel,
            *(str(v) if v else "" for v in (s.n, s.limbs if s.n else 0, s.q_bits, s.items, s.values)),
            f"{1e6 * s.quiet_s:.1f}",
            f"{50 * (s.quiet_high_s - s.quiet_low_s) / s.quiet_s:.1f}",
            f"{1e6 * s.typical_s:.1f}",
        ]
        for s in profile.samples
    ]
    columns = ["operation", "sets", "n", "limbs", "q bits", "items", "values", "quiet", "+- %", "typical"]
    table("samples (µs)", columns, rows)
    table(
        "several processes at once: times as long",
        ["operation", "sets", "n", "workers", "quiet", "typical"],
        [
            [p.operation, p.kernel, str(p.n), str(p.workers), f"{p.quiet_slowdown:.2f}", f"{p.typical_slowdown:.2f}"]
            for p in profile.parallel
        ],
    )
    _show_end_to_end(profile)
    if profile.loopback is not None:
        _show_link(profile.loopback)


def _show_end_to_end(profile: MachineProfile) -> None:
    found = end_to_end(profile)
    if found:
        table(
            "two processes over loopback, against the lesser of processors and link (million a second)",
            ["operation", "items", "values", "reached", "processors", "link", "share"],
            [
                [
                    each.operation,
                    str(each.items),
                    str(each.values or ""),
                    *(f"{1e-6 * each.items / s:.1f}" for s in (each.quiet_s, each.processor_s, each.link_s)),
                    f"{each.share:.0%}",
                ]
                for each in found
            ],
        )


def _show_link(link: LinkProfile) -> None:
    header, seen = link.header, link.header.summary
    say(
        f"{header.name}: {header.kind}, round trip {milliseconds(seen.round_trip_s)}, "
        f"{8e-6 * seen.rate_up_bytes_per_s:.4g} Mbit/s up, {8e-6 * seen.rate_down_bytes_per_s:.4g} down, "
        f"{8e-6 * seen.rate_both_bytes_per_s:.4g} each way at once; {header.source}"
    )
    if not header.converged and link.transfers:
        say("  not every size is known to within 5 %")
    if link.transfers:
        table(
            f"transfers, {header.congestion_control}",
            ["direction", "bytes", "µs a message", "+- %", "Mbit/s"],
            [
                [
                    t.direction,
                    str(t.message_bytes),
                    f"{1e6 * t.typical_s:.1f}",
                    f"{50 * (t.typical_high_s - t.typical_low_s) / t.typical_s:.1f}",
                    f"{8e-6 * t.bytes_per_s:.4g}",
                ]
                for t in link.transfers
            ],
        )


def compare_profiles(first: str, second: str, *, json: bool) -> None:
    """Which operations differ by how much."""
    found = compare(machine_profile.find(first), machine_profile.find(second))
    if json:
        print_json(found)
        return
    rows = [
        [kind, f"{each.median_pct:.2f}", f"{each.p95_pct:.2f}", f"{each.largest_pct:.2f}"]
        for kind, each in zip(KINDS, (found.quiet, found.typical, found.seen), strict=True)
    ]
    title = f"{found.second} against {found.first}, {len(found.differences)} settings: difference in %"
    table(title, ["times", "median", "95 %", "largest"], rows)
    _plot(found)
    worst = sorted(found.differences, key=lambda each: abs(np.log(each.quiet_ratio)), reverse=True)[:SHOWN]
    table(
        "settings that differ most: times as long",
        ["operation", "sets", "n", "limbs", "items", "quiet", "typical", "beyond intervals"],
        [
            [
                each.work.operation,
                each.work.kernel,
                str(each.work.n),
                str(each.work.limbs),
                str(each.work.items),
                f"{each.quiet_ratio:.3f}",
                f"{each.typical_ratio:.3f}",
                "yes" if each.distinct else "",
            ]
            for each in worst
        ],
    )
    if found.only_first or found.only_second:
        say(f"in one alone: {found.only_first} settings of {found.first}, {found.only_second} of {found.second}")


def _plot(found: Comparison) -> None:
    """Bars of the median quiet ratio by operation; the middle is 1, an end twice as fast or slow."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for each in found.differences:
        ratios[f"{each.work.operation} {each.work.kernel}".strip()].append(each.quiet_ratio)
    say(f"{'quiet time of ' + found.second:<30} {'faster':<{BAR // 2}}|{'slower':>{BAR // 2}}")
    for name, values in sorted(ratios.items(), key=lambda item: float(np.median(item[1]))):
        middle = float(np.median(values))
        length = min(BAR // 2, round(abs(np.log2(middle)) * (BAR // 2)))
        left, right = ("#" * length, "") if middle < 1 else ("", "#" * length)
        say(f"{name:<30} {left:>{BAR // 2}}|{right:<{BAR // 2}} {middle:.3f} ({min(values):.3f} to {max(values):.3f})")


def check_profile(name: str, *, json: bool) -> None:
    """Measure a sample again; refuses (exit code 3) a profile that this machine no longer is."""
    found = check(machine_profile.find(name), progress)
    if json:
        print_json(found)
    else:
        rows = [
            [
                s.operation,
                s.kernel,
                str(s.n),
                str(s.items),
                f"{1e6 * s.profiled_quiet_s:.1f}",
                f"{1e6 * s.quiet_s:.1f}",
                f"{s.ratio:.3f}",
                "drifted" if s.drifted else "",
            ]
            for s in found.settings
        ]
        table(f"{found.profile}, quiet µs", ["operation", "sets", "n", "items", "profile", "now", "ratio", ""], rows)
        say(f"the reference: {found.reference_ratio:.3f} times as long; settings (median): {found.median_ratio:.3f}")
        if found.differing:
            say(f"described otherwise: {', '.join(found.differing)}")
    if not found.holds:
        drifted = sum(setting.drifted for setting in found.settings)
        what = f"{drifted} of {len(found.settings)} drifted"
        if not found.same_machine:
            what = f"other {', '.join(found.differing)}"
        raise ProfileMismatch(f"profile {found.profile} is not of this machine as it is now ({what}); measure again")


def export_profile(name: str, file: Path) -> None:
    """A profile as one file."""
    write_atomic(file, export(read_any(folder_of(name, "profile.json", "link.json"))))
    err.print(f"exported to {file}")


def import_profile(file: Path, name: str | None, folder: Path) -> None:
    """Check a file and keep its profile."""
    found = import_file(file)
    kept = name or found.header.name
    _check_name(kept)
    if (folder / kept).exists():
        raise BadInput(f"{folder / kept}: is there already; choose another --name")
    write_any(found, folder / kept)
    err.print(f"imported as {folder / kept}")
