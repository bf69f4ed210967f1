"""`search` on several deployments, and `sweep`."""

from pathlib import Path

from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.searching import Search, Settings, check
from autoprivacy.agent.swapping import folder_of, profiles_of, swap
from autoprivacy.agent.sweeping import Backend, Row, sweep
from autoprivacy.cli.choice_commands import show_found
from autoprivacy.cli.console import VERSION, err, milliseconds, print_json, progress, say, table
from autoprivacy.cli.model_commands import show_comparison
from autoprivacy.common.errors import BadInput
from autoprivacy.common.records import save
from autoprivacy.models.deployments import Names, load_deployments
from autoprivacy.networks import zoo
from autoprivacy.networks.user_data import splits_for


def search_each(
    network: str, names: list[Names], out: Path, settings: Settings, data_file: Path | None, *, json: bool
) -> None:
    """Search on every deployment, and show what each one's policy is worth on the others."""
    check(settings)
    if out.suffix == ".json":
        raise BadInput(f"--out {out}: a search on {len(names)} deployments needs a folder, for a policy of each")
    trained, deployments = zoo.load(network), load_deployments(names)
    first = deployments[0].deployment
    pricing, splits = DeploymentPricing(first, settings.objective), splits_for(trained, data_file)
    made = Search(trained, splits, pricing, settings, progress, VERSION, profiles_of(first), out)
    swapped = swap(made, deployments)
    for number, found in enumerate(swapped.found):
        own = folder_of(out, number)
        save(found.policy, own / "policy.json")
        save(found, own / "search.json")
        if not json:
            say(f"{swapped.deployments[number]}:")
            show_found(found, settings)
    save(swapped.comparison, out / "comparison.json")
    if json:
        print_json(swapped)
        return
    show_comparison(swapped.comparison)
    err.print(f"policies written to {out}/deployment-1 to -{len(deployments)}, in the order above")


def sweep_networks(
    networks: list[str],
    names: list[Names],
    seeds: int,
    settings: Settings,
    out: Path,
    workers: int,
    backend: Backend,
    scheduler: str | None,
    *,
    json: bool,
) -> None:
    """Networks on deployments, with seeds."""
    check(settings)
    found = sweep(
        networks, names, seeds, settings, out, workers=workers, backend=backend, scheduler=scheduler, progress=progress
    )
    save(found, out / "sweep.json")
    if json:
        print_json(found)
        return
    columns = ["", "seeds", "best", "optimum", "median regret", "95 %", "seconds a seed"]
    title = f"method {found.method}: {found.cells} cells, {found.began_with} done before"
    table(title, columns, [_row(row) for row in found.rows])


def _row(row: Row) -> list[str]:
    regret, interval = row.regret_pct, "too few seeds"
    if regret is not None and regret.low is not None and regret.high is not None:
        interval = f"{regret.low:.2f} to {regret.high:.2f} %"
    return [
        f"{row.network} on {row.deployment}",
        f"{row.found}",
        "none" if row.latency_s is None else milliseconds(row.latency_s),
        milliseconds(row.optimum_s),
        "none" if regret is None else f"{regret.median:.2f} %",
        interval,
        f"{row.wall_s:.1f}",
    ]
