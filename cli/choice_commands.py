"""`search`, `policy`, `confirm` and `tune`."""

from pathlib import Path

import numpy as np

from autoprivacy.agent.choosing import Found as SearchFound
from autoprivacy.agent.choosing import run
from autoprivacy.agent.confirmation import Confirmation, Confirmed, Contender, Verdict, confirm
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.search import Candidate, Judged
from autoprivacy.agent.searching import Search, Settings, Spent, check
from autoprivacy.agent.tuning import tune
from autoprivacy.cli.console import VERSION, err, milliseconds, print_json, progress, say, table
from autoprivacy.cli.model_commands import model_of, show_prediction
from autoprivacy.common.errors import BadInput, PredictionMissed, ProtocolError
from autoprivacy.common.records import load, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.prediction import Deployment, predict, used_components
from autoprivacy.networks import data, zoo
from autoprivacy.networks.user_data import splits_for
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.linear_layer import AnyTile
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.seal_parameters import seal_parameters
from autoprivacy.protocol.serving import load_agreed
from autoprivacy.protocol.slot_packing import SlotTile

NOTABLE_DRIFT = 0.05
SAME_LATENCY = 1e-9
"""Tables and `predict` differ by rounding alone."""


def search(
    network: str,
    server: str,
    client: str,
    link: str | None,
    out: Path,
    settings: Settings,
    data_file: Path | None,
    *,
    json: bool,
) -> None:
    """Search a policy; `out` is a file for it, or (without .json) a run folder in which a search can go on."""
    check(settings)
    trained = zoo.load(network)
    path_between = None if link is None else fit_link(machine_profile.find_link(link))
    deployment = Deployment(model_of(server), model_of(client), path_between)
    profiles: tuple[str, ...] = (deployment.server.profile_id, deployment.client.profile_id)
    if path_between is not None:
        profiles = (*profiles, path_between.profile_id)
    folder = None if out.suffix == ".json" else out
    splits = splits_for(trained, data_file)
    made = Search(
        trained,
        splits,
        DeploymentPricing(deployment, settings.objective),
        settings,
        progress,
        VERSION,
        profiles,
        folder,
    )
    found = run(made)
    path = out if folder is None else folder / "policy.json"
    save(found.policy, path)
    if folder is not None:
        save(found, folder / "search.json")
    quantised = made.quantiser.quantise(found.policy.widths())
    prediction = predict(plan_network(quantised, agree(quantised, found.policy), made.schedule), deployment)
    if abs(prediction.latency_s / found.latency_s - 1) > SAME_LATENCY:
        raise AssertionError(f"tables say {found.latency_s} s, predict says {prediction.latency_s} s")
    if json:
        print_json(found)
        return
    _show_found(found, settings)
    _show_spent(settings.method, made.spent(settings.method))
    show_prediction(prediction, json=False)
    err.print(f"policy written to {path}")


def _show_found(found: SearchFound, settings: Settings) -> None:
    _show_layers(found.policy)
    for why in found.why:
        say(f"{why.layer}: {why.chosen}. Next cheaper: {why.next_cheaper}.")
    table(
        "the ladder of gains, at the same additive drop",
        ["", "rung", "circuit privacy", "predicted ms", "drop at most, points", "note"],
        [
            [
                rung.kind,
                rung.name,
                rung.circuit_privacy,
                "none" if rung.latency_s is None else f"{1000 * rung.latency_s:.3f}",
                "" if rung.drop is None else f"{100 * rung.drop.upper:.2f}",
                rung.note,
            ]
            for rung in found.ladder
        ],
    )
    rows = [
        [
            f"{1000 * point.latency_s:.3f}",
            f"{100 * point.additive_drop:.3f}",
            "" if point.drop_upper is None else f"{100 * point.drop_upper:.3f}",
        ]
        for point in found.front
    ]
    table("latency against accuracy", ["predicted ms", "additive drop, points", "joint bound, points"], rows)
    if found.unpriced:
        say(f"{len(found.unpriced)} HE sets have no price on this deployment; the first: {found.unpriced[0]}")
    proven = "proven fastest for additive costs" if found.proven else "best that the method found"
    say(
        f"method {settings.method}, {proven}; {found.policies_in_space:.3g} policies, {found.simulated} simulated: "
        f"{found.drop.accuracy:.2%} on {found.drop.images} images, {found.drop.baseline:.2%} at 8 bits without errors, "
        f"drop at most {found.drop.upper:.2%} with 95 % confidence (additive estimate {found.additive_drop:.2%})"
    )


def _show_spent(method: str, spent: Spent) -> None:
    """How many policies a method priced in all its runs, and how long that and its own work took."""
    if spent.priced:
        say(
            f"{method} priced {spent.priced} policies in all: {spent.pricing_s:.2f} s for their prices, "
            f"{spent.seconds - spent.pricing_s:.2f} s of its own"
        )


def _show_choice(best: Judged, plain: Candidate, policies: int, simulated: int) -> None:
    _show_layers(best.policy)
    say(
        f"the fastest of {policies} policies that keeps accuracy ({simulated} simulated): "
        f"{best.drop.accuracy:.2%} on the search split, {best.drop.baseline:.2%} at 8 bits without errors, "
        f"drop at most {best.drop.upper:.2%} with 95 % confidence"
    )
    ratio = plain.prediction.latency_s / best.prediction.latency_s
    say(f"predicted {ratio:.2f} times as fast as one set (n = 2048, 8-bit weights) for all layers")


def _show_layers(policy: Policy) -> None:
    rows = [
        [
            name,
            str(layer.n),
            " + ".join(str(limb.bit_length()) for limb in layer.limbs),
            str(layer.t.bit_length() - 1),
            _tile(layer.tile),
            str(layer.weight_bits),
            str(layer.activation_bits),
        ]
        for name, layer in policy.layers.items()
    ]
    columns = ["layer", "n", "q bits", "t bits", "tile", "weight bits", "activation bits"]
    table(f"policy for {policy.network} ({policy.circuit_privacy}, {policy.security})", columns, rows)


def _tile(tile: AnyTile) -> str:
    """Channels in, channels out, height and width."""
    size = tile.window if isinstance(tile, SlotTile) else (tile.height, tile.width)
    return f"{tile.in_channels}x{tile.out_channels}x{size[0]}x{size[1]}"


def show_policy(path: Path, *, json: bool) -> None:
    """One policy file."""
    policy = load(Policy, path)
    if json:
        print_json(policy)
        return
    _show_layers(policy)
    say(
        f"made by {policy.made_by.method}, version {policy.made_by.version}, "
        f"profiles {', '.join(policy.made_by.profiles)}"
    )


def export_policy(path: Path, *, json: bool) -> None:
    """What SEAL takes for each layer of a policy file."""
    export = seal_parameters(load(Policy, path))
    if json:
        print_json(export)
        return
    for each in export.layers:
        notes = ["the last is a dummy special prime"] if each.dummy_special else []
        say(
            f"{each.layer}: poly_modulus_degree {each.poly_modulus_degree}, plain_modulus {each.plain_modulus}, "
            f"coeff_modulus {' '.join(map(str, each.coeff_modulus))} "
            f"({' + '.join(map(str, each.coeff_modulus_bits))} bits{''.join(f'; {note}' for note in notes)}), "
            f"sec_level {each.sec_level}, security {each.security}"
        )


def confirm_policies(
    network: str,
    policies: list[Path],
    profile: str,
    images: int,
    seed: int,
    path: Path | None,
    data_file: Path | None,
    *,
    json: bool,
) -> None:
    """Run policies from files."""
    model = model_of(profile)
    deployment = Deployment(model, model)
    contenders = []
    for file in policies:
        policy, quantised, agreement = load_agreed(network, file, data_file)
        contenders.append(
            Contender(file.stem, policy, agreement, quantised, predict(plan_network(quantised, agreement), deployment))
        )
    splits = splits_for(zoo.load(network), data_file)
    check_images(images, splits)
    split = splits.confirm
    with progress("running privately", images * len(contenders)) as advance:
        confirmation = confirm(
            contenders,
            network,
            split.x[:images],
            split.y[:images],
            reference_typical_s=model.reference_typical_s,
            rng=np.random.default_rng(seed),
            progress=advance,
            data_file=data_file,
        )
    if path is not None:
        save(confirmation, path)
    _conclude(confirmation, json=json)


def check_images(images: int, splits: data.Splits) -> None:
    """Refuse more images than the confirm split holds."""
    if images > len(splits.confirm.y):
        raise BadInput(f"--images {images}: the confirm split has {len(splits.confirm.y)} images; ask for fewer")


def tune_network(
    network: str,
    path: Path | None,
    images: int,
    max_accuracy_drop: float,
    seed: int,
    data_file: Path | None,
    *,
    fresh: bool,
    json: bool,
) -> None:
    """The whole chain."""
    trained = zoo.load(network)
    run = path or Path("runs") / trained.network.name
    splits = splits_for(trained, data_file)
    check_images(images, splits)
    _, found, plain, confirmation = tune(
        trained,
        network,
        splits,
        run,
        version=VERSION,
        images=images,
        max_accuracy_drop=max_accuracy_drop,
        seed=seed,
        fresh=fresh,
        progress=progress,
        data_file=data_file,
    )
    if not json:
        _show_choice(found.best, plain, found.policies, found.simulated)
        say(f"run folder: {run}")
    _conclude(confirmation, json=json)


def _conclude(confirmation: Confirmation, *, json: bool) -> None:
    """Show a confirmation; its last line is the verdict.

    Raises:
        ProtocolError: if logits are not what the integer reference gives with the errors that were seen.
        PredictionMissed: if a measured median lies outside its predicted interval.
    """
    if json:
        print_json(confirmation)
    else:
        for policy in confirmation.policies:
            _show_confirmed(policy)
        if abs(confirmation.drift - 1) > NOTABLE_DRIFT:
            say(
                f"the machine ran at {1 / confirmation.drift:.2f} times the speed of its profile "
                "(reference operation); predictions are judged with that divided out"
            )
        say(_last_line(confirmation))
    for policy in confirmation.policies:
        if policy.logits_explained < policy.images or not policy.bytes_as_planned:
            raise ProtocolError(
                f"{policy.label}: {policy.logits_explained} of {policy.images} results follow the integer reference, "
                f"bytes as planned: {policy.bytes_as_planned}; this is a defect, please report it with the run folder"
            )
    missed = [policy.label for policy in confirmation.policies if not policy.within_interval]
    if missed:
        raise PredictionMissed(
            f"measured outside the predicted interval: {', '.join(missed)}; profile again when it is quiet"
        )


def _show_confirmed(policy: Confirmed) -> None:
    names = used_components(policy.predicted_components, policy.measured_components)
    rows = [
        [kind, *(f"{1000 * getattr(parts, name):.2f}" for name in names), f"{1000 * total:.2f}"]
        for kind, parts, total in (
            ("predicted", policy.predicted_components, policy.predicted_s),
            ("measured", policy.measured_components, policy.measured_s),
        )
    ]
    columns = [name.removesuffix("_s").replace("_", " ") for name in names]
    table(f"{policy.label}: milliseconds an image", ["", *columns, "total"], rows)
    seen = f"{policy.errors_seen} decryption errors, {policy.errors_expected:.4g} expected"
    say(
        f"logits: {policy.logits_explained} of {policy.images} equal the integer reference bit for bit, "
        f"given the errors seen ({seen}); {policy.logits_equal} are the same as without errors. "
        f"{policy.correct} of {policy.images} labels right. "
        f"{policy.bytes_up:,} bytes up, {policy.bytes_down:,} down, "
        f"{'as planned' if policy.bytes_as_planned else 'NOT as planned'}"
    )


def _last_line(confirmation: Confirmation) -> str:
    first = confirmation.policies[0]
    interval = f"{milliseconds(first.predicted_low_s)} to {milliseconds(first.predicted_high_s)}"
    line = (
        f"confirmed: {first.label}: predicted {milliseconds(first.predicted_s)} ({interval}), "
        f"measured {milliseconds(first.measured_s)} an image"
    )
    if not first.within_interval:
        line = "not " + line
    if confirmation.verdict is None:
        return line
    return f"{line}; {_compared(confirmation.verdict, confirmation.policies[1].label)}"


def _compared(verdict: Verdict, other: str) -> str:
    if verdict.faster == "not distinguishable" or verdict.ratio_low is None or verdict.ratio_high is None:
        return f"not distinguishable from {other}"
    ratio, low, high = verdict.ratio, verdict.ratio_low, verdict.ratio_high
    if verdict.faster == "second":
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    word = "faster" if verdict.faster == "first" else "slower"
    return f"{ratio:.2f} times {word} than {other} (95 %: {low:.2f} to {high:.2f})"
