"""`search` and `policy`."""

from collections.abc import Sequence
from pathlib import Path

from autoprivacy.agent.choosing import Found as SearchFound
from autoprivacy.agent.choosing import run
from autoprivacy.agent.ladder import Rung
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.searching import Search, Settings, Spent, check
from autoprivacy.cli.console import VERSION, err, print_json, progress, say, table
from autoprivacy.cli.model_commands import model_of, show_prediction
from autoprivacy.cli.proof_commands import check_confirmable, confirm_found, show_proof
from autoprivacy.common.records import load, save
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.prediction import Deployment, predict
from autoprivacy.networks import zoo
from autoprivacy.networks.user_data import splits_for
from autoprivacy.protocol.agreeing import agree
from autoprivacy.protocol.linear_layer import AnyTile
from autoprivacy.protocol.plan import plan_network
from autoprivacy.protocol.policy import Policy
from autoprivacy.protocol.seal_parameters import seal_parameters
from autoprivacy.protocol.slot_packing import SlotTile

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
    candidates: int,
    images: int | None,
    *,
    json: bool,
) -> None:
    """Search a policy; `out` is a file for it, or (without .json) a run folder in which a search can go on.

    With `candidates` so many of the best by prediction run for real, and the measured winner is the answer.
    """
    check(settings)
    if candidates:
        check_confirmable(server, client)
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
    if not json:
        show_found(found, settings)
        _show_spent(settings.method, made.spent(settings.method))
        show_prediction(prediction, json=False)
        err.print(f"policy written to {path}")
    if candidates:
        proof = confirm_found(made, found, deployment, network, server, link, candidates, images, path, data_file)
        if json:
            print_json(proof)
        show_proof(proof, shown=not json)
    elif json:
        print_json(found)


def show_found(found: SearchFound, settings: Settings) -> None:
    """All that a search found: the policy and its reasons, the ladder, the front."""
    show_layers(found.policy)
    for why in found.why:
        say(f"{why.layer}: {why.chosen}. Next cheaper: {why.next_cheaper}.")
    _show_ladder(found.ladder)
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


def _show_ladder(ladder: Sequence[Rung]) -> None:
    """The rungs as a table, and what is to be said of some below it."""
    notes = list(dict.fromkeys(rung.note for rung in ladder if rung.note))
    rows = [
        [
            f"{rung.name} ({notes.index(rung.note) + 1})" if rung.note else rung.name,
            rung.kind,
            rung.circuit_privacy,
            "none" if rung.latency_s is None else f"{1000 * rung.latency_s:.3f}",
            "" if rung.drop is None else f"{100 * rung.drop.upper:.2f}",
        ]
        for rung in ladder
    ]
    columns = ["rung", "", "circuit privacy", "predicted ms", "drop at most, points"]
    table("the ladder of gains, at the same additive drop", columns, rows)
    for number, note in enumerate(notes, 1):
        say(f"({number}) {note}")


def _show_spent(method: str, spent: Spent) -> None:
    """How many policies a method priced in all its runs, and how long that and its own work took."""
    if spent.priced:
        say(
            f"{method} priced {spent.priced} policies in all: {spent.pricing_s:.2f} s for their prices, "
            f"{spent.seconds - spent.pricing_s:.2f} s of its own"
        )


def show_layers(policy: Policy) -> None:
    """A policy, layer by layer."""
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
    show_layers(policy)
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
