"""`confirm`, `tune`, `report`, and what `search --confirm` adds to a search."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from autoprivacy.agent.choosing import Found
from autoprivacy.agent.confirmation import Contender, confirmed, run_privately
from autoprivacy.agent.confirmed import Confirmation, Confirmed, ConfirmedPhase, Verdict
from autoprivacy.agent.contenders import candidates_of, contender, suitable_images
from autoprivacy.agent.feedback import Lesson, learn
from autoprivacy.agent.machines import Peer, must_hold
from autoprivacy.agent.searching import Search
from autoprivacy.agent.servers import LocalServers, RemoteServers, Servers, route_over
from autoprivacy.agent.tuning import Asked, check_images, choose, policy_file, prove, prove_choice
from autoprivacy.cli.console import VERSION, err, milliseconds, print_json, progress, say, table
from autoprivacy.cli.model_commands import model_of
from autoprivacy.common.errors import BadInput, PredictionMissed, ProtocolError
from autoprivacy.common.files import check_writable
from autoprivacy.common.records import record, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.deployments import LOOPBACK
from autoprivacy.models.fitted import fitted
from autoprivacy.models.latency_report import labels
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.prediction import Deployment, predict, used_components
from autoprivacy.networks import zoo
from autoprivacy.networks.user_data import splits_for
from autoprivacy.profiler.machine import describe_software
from autoprivacy.protocol.conversation import Schedule
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.serving import load_agreed
from autoprivacy.protocol.tls import client_end
from autoprivacy.protocol.transport import Route, load_key, parse_address

NOTABLE_DRIFT = 0.05


@record
class Proof:
    """What `search --confirm` prints: what was found, what was measured, and what the model learnt.

    `lesson` is None over an emulated link: profiles hold loopback.
    """

    found: Found
    confirmation: Confirmation
    lesson: Lesson | None


def confirm_policies(
    network: str,
    policies: list[Path],
    profile: str,
    server_profile: str | None,
    link: str | None,
    schedule: Schedule,
    peers: list[str],
    key_file: Path | None,
    certificate: Path | None,
    timeout_s: float,
    images: int | None,
    seed: int,
    out: Path | None,
    data_file: Path | None,
    *,
    unchecked: bool,
    json: bool,
) -> None:
    """Run policies from files, on this machine or against servers elsewhere."""
    if out is not None:
        check_writable(out)
    servers = _servers(network, policies, peers, key_file, certificate, timeout_s, link, data_file)
    here = machine_profile.find(profile)
    machine_profile.check_fresh(here, describe_software())
    between = None if link is None else machine_profile.find_link(link)
    agreed = [load_agreed(network, file, data_file) for file in policies]
    if not unchecked:
        must_hold(here, progress)
    model = fitted(here)
    deployment = Deployment(
        model if server_profile is None else model_of(server_profile),
        model,
        None if between is None else fit_link(between),
    )
    contenders = []
    for label, (policy, quantised, agreement) in zip(labels(policies), agreed, strict=True):
        planned = plan_network(quantised, agreement, schedule)
        prediction = predict(planned, deployment)
        contenders.append(Contender(label, policy, agreement, quantised, prediction, schedule))
    splits = splits_for(zoo.load(network), data_file)
    count = images or suitable_images(contenders, len(splits.confirm.y))
    check_images(count, splits)
    split = splits.confirm
    with progress("running privately", count * len(contenders)) as advance:
        runs = run_privately(contenders, servers, split.x[:count], rng=np.random.default_rng(seed), progress=advance)
    confirmation = confirmed(
        runs,
        split.x[:count],
        split.y[:count],
        version=VERSION,
        link=_link_name(link, peers),
        seed=seed,
        reference_typical_s=model.reference_typical_s,
    )
    if out is not None:
        save(confirmation, out)
    if json:
        print_json(confirmation)
    else:
        show_confirmation(confirmation)
        say(last_line(confirmation))
    conclude(confirmation)


def _link_name(link: str | None, peers: list[str]) -> str:
    if peers:
        return link or "the real link"
    return LOOPBACK if link is None else f"{link}, emulated"


def _servers(
    network: str,
    policies: list[Path],
    peers: list[str],
    key_file: Path | None,
    certificate: Path | None,
    timeout_s: float,
    link: str | None,
    data_file: Path | None,
) -> Servers:
    """Who serves: the peers, or processes of this machine, over the link that is named."""
    if not peers:
        return LocalServers(
            network, data_file, Route() if link is None else route_over(machine_profile.find_link(link))
        )
    if key_file is None:
        raise BadInput("--peer needs --key-file, the key that both sides share")
    if len(peers) != len(policies):
        raise BadInput(
            f"{len(peers)} servers for {len(policies)} policies; give one --peer for each --policy, in order"
        )
    for each in peers:
        parse_address(each, secured=certificate is not None)
    route = Route(tls=None if certificate is None else client_end(certificate), timeout_s=timeout_s)
    return RemoteServers(dict(zip(labels(policies), peers, strict=True)), load_key(key_file), route)


def check_confirmable(server: str, client: str) -> None:
    """Refuse to confirm on this machine what is searched for two.

    Raises:
        BadInput: naming both.
    """
    if server != client:
        raise BadInput(
            f"--confirm runs both parties here, but the server is {server} and the client {client}; search without it, "
            "start `autoprivacy serve --reveal-for-testing` there, then `autoprivacy confirm --peer` here"
        )


def confirm_found(
    search: Search,
    found: Found,
    deployment: Deployment,
    network: str,
    profile: str,
    link: str | None,
    candidates: int,
    images: int | None,
    path: Path,
    data_file: Path | None,
) -> Proof:
    """Run the best of a search; the measured winner is written to `path`, measurements beside it."""
    here = machine_profile.find(profile)
    contenders = [
        contender(search, label, policy, deployment) for label, policy in candidates_of(search, found, candidates)
    ]
    between = None if link is None else machine_profile.find_link(link)
    confirmation, runs = prove(
        contenders,
        candidates,
        LocalServers(network, data_file, Route() if between is None else route_over(between)),
        search.data,
        images=images or suitable_images(contenders, len(search.data.confirm.y)),
        model=deployment.client,
        version=VERSION,
        seed=search.settings.seed,
        progress=progress,
        link=_link_name(link, []),
    )
    save(runs[0].contender.policy, path)
    lesson = None
    if search.folder is not None:
        save(confirmation, search.folder / "confirmation.json")
    if link is None:
        taught, _, lesson = learn(here, deployment.client, runs)
        if search.folder is not None:
            machine_profile.write(taught, search.folder / "profile-confirmed")
            save(lesson, search.folder / "lesson.json")
    return Proof(found, confirmation, lesson)


def show_proof(proof: Proof, *, shown: bool) -> None:
    """Show what `search --confirm` measured, and end with its verdict."""
    if shown:
        show_confirmation(proof.confirmation)
        if proof.lesson is not None:
            show_lesson(proof.lesson)
        say(last_line(proof.confirmation))
    conclude(proof.confirmation, {proof.confirmation.policies[0].label})


def tune_network(asked: Asked, *, json: bool) -> None:
    """The whole chain."""
    from autoprivacy.agent.report import write_story
    from autoprivacy.agent.story import story_of
    from autoprivacy.cli.choice_commands import show_found

    if asked.images is not None:
        check_images(asked.images, asked.data)
    chosen = choose(asked, progress)
    if not json:
        show_found(chosen.found, asked.settings)
    if asked.peer is not None and not asked.peer.serving:
        first = [policy_file(asked.out, each.label) for each in chosen.contenders]
        say(
            "chosen; to prove it, copy policies to the peer and start a server there for each that is to run, in this "
            f"order: {', '.join(map(str, first))}"
        )
        say(
            f"  peer: autoprivacy serve {asked.source} --policy {first[0].name} --key-file KEY --reveal-for-testing "
            "--listen HOST:PORT (off loopback with --certificate)"
        )
        say("  here: this command again with --serving HOST:PORT, once for each server")
        if json:
            print_json(chosen.found)
        return
    done = prove_choice(asked, chosen, progress)
    page = asked.out / "report.html"
    story = story_of(asked.out)
    write_story(story, page)
    if json:
        print_json(story)
    else:
        show_confirmation(done.confirmation)
        for each in done.run.left_out:
            say(f"not run: {each}")
        if done.lesson is not None:
            show_lesson(done.lesson)
        say(f"run folder: {asked.out}")
        say(f"{last_line(done.confirmation)}; report: {page}")
    conclude(done.confirmation, {done.run.winner})


def peer_of(address: str, serving: list[str], key_file: Path | None, certificate: Path | None) -> Peer:
    """The other machine.

    Raises:
        BadInput: without a key, or with a bad address.
    """
    if key_file is None:
        raise BadInput("--peer needs --key-file, the key that both sides share")
    route = Route(tls=None if certificate is None else client_end(certificate))
    for each in (address, *serving):
        parse_address(each, secured=certificate is not None)
    return Peer(address, load_key(key_file), route, tuple(serving))


def redraw(folder: Path, html: Path | None, *, json: bool) -> None:
    """Draw the report of a run folder again."""
    from autoprivacy.agent.report import write_story
    from autoprivacy.agent.story import story_of

    story = story_of(folder)
    page = html or folder / "report.html"
    write_story(story, page)
    if json:
        print_json(story)
    err.print(f"report written to {page}")


def show_confirmation(confirmation: Confirmation) -> None:
    """Tables of all policies, and the verdicts."""
    for policy in confirmation.policies:
        if policy.offline is not None:
            _show_phase(f"{policy.label}, before the image", policy.offline)
        _show_phase(f"{policy.label}: milliseconds an image", policy.online)
        seen = f"{policy.errors_seen} decryption errors, {policy.errors_expected:.4g} expected"
        say(
            f"logits: {policy.logits_explained} of {policy.images} equal the integer reference bit for bit, "
            f"given the errors seen ({seen}); {policy.logits_equal} are the same as without errors. "
            f"{policy.correct} of {policy.images} labels right. "
            f"{policy.online.bytes_up:,} bytes up, {policy.online.bytes_down:,} down, "
            f"{'as planned' if policy.bytes_as_planned else 'NOT as planned'}; "
            f"set-up {milliseconds(policy.setup_s)} once a session"
        )
    for each in confirmation.verdicts:
        say(f"{each.first} against {each.second}: {compared(each)} (predicted {each.predicted_ratio:.2f} times)")
    if abs(confirmation.drift - 1) > NOTABLE_DRIFT:
        say(
            f"the machine ran at {1 / confirmation.drift:.2f} times the speed of its profile "
            "(reference operation); predictions are judged with that divided out"
        )


def _show_phase(title: str, phase: ConfirmedPhase) -> None:
    names = used_components(phase.predicted, phase.measured)
    timing = phase.timing
    rows = [
        [kind, *(f"{1000 * getattr(parts, name):.2f}" for name in names), f"{1000 * total:.2f}", interval]
        for kind, parts, total, interval in (
            ("predicted", phase.predicted, timing.predicted_s, _span(timing.predicted_low_s, timing.predicted_high_s)),
            ("measured", phase.measured, timing.measured_s, _span(timing.measured_low_s, timing.measured_high_s)),
        )
    ]
    columns = [name.removesuffix("_s").replace("_", " ") for name in names]
    table(title, ["", *columns, "total", "interval"], rows)


def _span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{1000 * low:.2f} to {1000 * high:.2f}"


def show_lesson(lesson: Lesson) -> None:
    """How the model errs on what was confirmed, before and after it learnt of it."""
    table(
        f"{lesson.layers} measured layers went back into the profile: errors of the prediction",
        ["policy", "before", "after, from the others", "after, its own too"],
        [
            [
                each.label,
                f"{each.error_before:+.1%}",
                "-" if each.error_after is None else f"{each.error_after:+.1%}",
                f"{each.error_with_own:+.1%}",
            ]
            for each in lesson.policies
        ],
    )


def last_line(confirmation: Confirmation) -> str:
    """The first policy, and its verdict against all others."""
    first = confirmation.policies[0]
    timing = first.total
    line = (
        f"confirmed: {first.label}: predicted {milliseconds(timing.predicted_s)} "
        f"({milliseconds(timing.predicted_low_s)} to {milliseconds(timing.predicted_high_s)}), "
        f"measured {milliseconds(timing.measured_s)} an image"
    )
    if not first.within_interval:
        line = "not " + line
    return "; ".join((line, *(_clause(each) for each in confirmation.verdicts)))


def _clause(verdict: Verdict) -> str:
    found = compared(verdict)
    return (
        f"{found} from {verdict.second}"
        if verdict.faster == "not distinguishable"
        else f"{found} than {verdict.second}"
    )


def compared(verdict: Verdict) -> str:
    """A verdict in words."""
    if verdict.faster == "not distinguishable" or verdict.ratio_low is None or verdict.ratio_high is None:
        return "not distinguishable"
    ratio, low, high = verdict.ratio, verdict.ratio_low, verdict.ratio_high
    if verdict.faster == "second":
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    word = "faster" if verdict.faster == "first" else "slower"
    return f"{ratio:.2f} times {word} (95 %: {low:.2f} to {high:.2f})"


def conclude(confirmation: Confirmation, labels: Collection[str] | None = None) -> None:
    """End well, or with the exit code of what went wrong; predicted intervals of these policies, or of all, are judged.

    Raises:
        ProtocolError: if logits are not what the integer reference gives with the errors that were seen.
        PredictionMissed: if a measurement contradicts its prediction.
    """
    for policy in confirmation.policies:
        _check(policy)
    if contradictions := confirmation.contradictions(labels):
        raise PredictionMissed(f"{'; '.join(contradictions)}; profile again when the machine is quiet")


def _check(policy: Confirmed) -> None:
    if policy.logits_explained < policy.images or not policy.bytes_as_planned:
        raise ProtocolError(
            f"{policy.label}: {policy.logits_explained} of {policy.images} results follow the integer reference, "
            f"bytes as planned: {policy.bytes_as_planned}; this is a defect, please report it with the run folder"
        )
