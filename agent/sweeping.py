"""Sweeps: every network on every deployment with every seed, spread over processes by joblib: here, or by Dask.

Each cell of a sweep is one file in the run folder, written whole or not at all when the cell is finished: a worker that
dies loses the cell it was working on, which is started again, and a sweep that is run again does what is missing.
Workers on other machines need the same profiles and the same run folder (a shared file system).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np

from autoprivacy.agent.judging import Median, median_over, regret_pct
from autoprivacy.agent.methods import exact
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.problem import UNIT, units
from autoprivacy.agent.searching import Search, Settings, solved
from autoprivacy.agent.surrogate import Surrogate
from autoprivacy.agent.swapping import profiles_of
from autoprivacy.common.errors import BadInput, Refused
from autoprivacy.common.progress import Progress, silent
from autoprivacy.common.records import load, record, save
from autoprivacy.models.deployments import Names, load_deployments
from autoprivacy.networks import zoo
from autoprivacy.networks.user_data import splits_for
from autoprivacy.protocol.policy import Policy

Backend: TypeAlias = Literal["local", "dask"]

MOST_ROUNDS: Final = 5
"""So often are cells tried again whose workers died."""


@record
class Task:
    """One cell that is asked for; its seed is that of the method, the settings' seed that of accuracy.

    `made_from` are the network's hash and ids of the profiles: what names stood for.
    """

    network: str
    deployment: str
    made_from: tuple[str, ...]
    settings: Settings
    seed: int


@record
class Cell:
    """One cell: problem A solved by the method; no latency and no policy if it found none.

    Nothing was simulated as a whole: `search` does that. `optimum_s` is the exact optimum at the same additive drop.
    """

    schema_version: Literal[1]
    task: Task
    latency_s: float | None
    additive_drop: float | None
    optimum_s: float
    regret_pct: float | None
    priced: int
    wall_s: float
    policy: Policy | None


@record
class Row:
    """The seeds of one network on one deployment."""

    network: str
    deployment: str
    found: int
    regret_pct: Median | None
    latency_s: float | None
    optimum_s: float
    wall_s: float


@record
class Sweep:
    """All that was asked for, summed up."""

    method: str
    rows: tuple[Row, ...]
    cells: int
    began_with: int


def sweep(
    networks: Sequence[str],
    deployments: Sequence[Names],
    seeds: int,
    settings: Settings,
    folder: Path,
    *,
    workers: int = 1,
    backend: Backend = "local",
    scheduler: str | None = None,
    progress: Progress = silent,
) -> Sweep:
    """Do what the run folder does not hold yet.

    Raises:
        BadInput: if the backend is not installed, or a network, profile or setting cannot be used.
        Refused: if workers keep dying.
    """
    loaded = load_deployments(deployments)
    tasks = []
    for network in networks:
        trained = zoo.load(network)
        shared = _search(network, str(deployments[0]), settings, folder)
        shared.progress = progress
        shared.sensitivities()  # what all cells of a network share is measured before they are spread
        for names, each in zip(deployments, loaded, strict=True):
            ids = trained.hash, *profiles_of(each.deployment)
            tasks += [Task(network, str(names), ids, settings, seed) for seed in range(seeds)]
    work = [_Work(task, folder) for task in tasks]
    before = sum(each.done for each in work)
    complete(work, workers, backend, scheduler, progress)
    cells = [load(Cell, each.file) for each in work]
    return Sweep(settings.method, tuple(_rows(cells)), len(cells), before)


class Work(Protocol):
    """Something that any process can do, once."""

    @property
    def done(self) -> bool:
        """Whether it was done: kept in a file."""
        ...

    def __call__(self) -> None:
        """Do it."""
        ...


class _Work:
    """The work of one cell."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.task, self.folder = task, folder

    @property
    def file(self) -> Path:
        """Where its cell is kept."""
        said = repr((self.task.made_from, self.task.settings))
        name = f"{Path(self.task.network).stem}-{sha256(said.encode()).hexdigest()[:12]}"
        return self.folder / "cells" / name / f"seed-{self.task.seed}.json"

    @property
    def done(self) -> bool:
        """Whether there is one."""
        return self.file.exists()

    def __call__(self) -> None:
        if not self.done:
            save(solve_cell(self.task, self.folder), self.file)


def complete(work: Sequence[Work], workers: int, backend: Backend, scheduler: str | None, progress: Progress) -> None:
    """Do all work that is not done, again and again while workers die.

    Raises:
        Refused: if workers die and nothing more gets done.
    """
    for _ in range(MOST_ROUNDS):
        missing = [each for each in work if not each.done]
        if not missing:
            return
        with progress("sweeping", len(missing)) as advance:
            for _done in _spread(missing, workers, backend, scheduler):
                advance()
    left = sum(not each.done for each in work)
    if left:
        raise Refused(
            f"{left} of {len(work)} cells are not done, workers died {MOST_ROUNDS} times; those done are kept: "
            "run the same command again, with fewer --workers if memory was short"
        )


def _spread(work: Sequence[Work], workers: int, backend: Backend, scheduler: str | None) -> Iterator[None]:
    """Do work in other processes, telling of each that ends; a worker's death ends it early, without an error.

    Dask itself hands the work of a worker that died to another one.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with _cluster(workers, backend, scheduler):
        try:
            yield from Parallel(n_jobs=workers, return_as="generator_unordered")(delayed(each)() for each in work)
        except TerminatedWorkerError:
            return


@contextmanager
def _cluster(workers: int, backend: Backend, scheduler: str | None) -> Iterator[None]:
    """Where joblib sends work meanwhile."""
    from joblib import parallel_config

    if backend == "local":
        with parallel_config(backend="loky", inner_max_num_threads=1):
            yield
        return
    try:
        import dask.distributed as dask
    except ImportError:
        raise BadInput("--backend dask needs Dask; install it with: pip install 'autoprivacy[dask]'") from None
    if scheduler is not None:
        with dask.Client(scheduler), parallel_config(backend="dask"):
            yield
        return
    cluster = dask.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with cluster, dask.Client(cluster), parallel_config(backend="dask"):
        yield


@lru_cache(maxsize=2)  # tables of large networks are hundreds of megabytes
def _tables(network: str, deployment: str, settings: Settings, folder: Path) -> tuple[Search, Surrogate, float]:
    """What cells of one network and deployment share within a process, and the optimum."""
    search = _search(network, deployment, settings, folder)
    tables = search.tables()
    budget = units(settings.max_accuracy_drop)
    optimum = exact.solve(tables.problem, budget, np.random.default_rng(0), 0)
    return search, tables, optimum.latency_s


def _search(network: str, deployment: str, settings: Settings, folder: Path) -> Search:
    trained = zoo.load(network)
    (named,) = load_deployments([Names.parse(deployment)])
    pricing, ids = DeploymentPricing(named.deployment, settings.objective), profiles_of(named.deployment)
    own = folder / Path(network).stem
    return Search(trained, splits_for(trained, None), pricing, settings, silent, profiles=ids, folder=own)


def solve_cell(task: Task, folder: Path) -> Cell:
    """Solve problem A with the task's method and seed."""
    search, tables, optimum_s = _tables(task.network, task.deployment, task.settings, folder)
    start = time.perf_counter()
    alone = replace(search, settings=replace(task.settings, seed=task.seed), folder=None)
    found = solved(alone, tables, units(task.settings.max_accuracy_drop))
    took = time.perf_counter() - start
    if found is None:
        return Cell(1, task, None, None, optimum_s, None, 0, took, None)
    return Cell(
        schema_version=1,
        task=task,
        latency_s=found.latency_s,
        additive_drop=found.penalty * UNIT,
        optimum_s=optimum_s,
        regret_pct=regret_pct(found.latency_s, optimum_s),
        priced=found.priced,
        wall_s=took,
        policy=search.policy(tables, found.policy, method_name=task.settings.method),
    )


def _rows(cells: Sequence[Cell]) -> Iterator[Row]:
    for network, deployment in dict.fromkeys((cell.task.network, cell.task.deployment) for cell in cells):
        own = [cell for cell in cells if (cell.task.network, cell.task.deployment) == (network, deployment)]
        regrets = [cell.regret_pct for cell in own if cell.regret_pct is not None]
        latencies = [cell.latency_s for cell in own if cell.latency_s is not None]
        yield Row(
            network=network,
            deployment=deployment,
            found=len(regrets),
            regret_pct=median_over(regrets) if regrets else None,
            latency_s=min(latencies, default=None),
            optimum_s=own[0].optimum_s,
            wall_s=float(np.median([cell.wall_s for cell in own])),
        )
