"""Sessions of `benchmarks.prediction`: what was run, its plan, and seconds by component as they were measured."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from autoprivacy.models.layer_model import hidden_s
from autoprivacy.models.prediction import Deployment, tables_s
from autoprivacy.profiler.spells import Slowdown, levelled
from autoprivacy.profiler.statistics import quiet, typical
from autoprivacy.protocol.plan import LayerPlan, Plan, plan_network
from autoprivacy.protocol.times import LayerTimes
from benchmarks.prediction_party import cases_of
from benchmarks.unseen import Unseen

HE, CLEAR, OT, GC, SPILL, _, OTHER = range(7)
"""Columns of `LayerTimes`; the sixth is the link."""

LEAST_LINK_S = 1e-6


@dataclass(frozen=True, slots=True)
class Session:
    """One policy of one network, run: its plan, its runs, and the same at the machine's quiet speed."""

    job: str
    name: str
    over: str
    plan: Plan
    deployment: Deployment
    runs: tuple[dict[str, Any], ...]
    levelled: tuple[dict[str, Any], ...]
    slowdowns: tuple[float, ...]

    def typical(self, of: Callable[[dict[str, Any]], float]) -> float:
        """The median over runs of something, at the machine's quiet speed."""
        return typical([of(run) for run in self.levelled], self.slowdowns)

    def quiet(self, of: Callable[[dict[str, Any]], float]) -> float:
        """The 5 % quantile over runs."""
        return quiet([of(run) for run in self.runs], self.slowdowns)

    def layer_s(self, index: int) -> Callable[[dict[str, Any]], float]:
        """Seconds of one layer in a run: all that the client's clock saw of it, waiting too."""
        return lambda run: float(sum(run["online"]["client"][index]))

    @property
    def latency_s(self) -> float:
        """From image to logits."""
        return self.typical(lambda run: float(run["online"]["latency_s"]))

    @property
    def total_s(self) -> float:
        """With what was done ahead."""
        return self.typical(lambda run: sum(run[phase]["latency_s"] for phase, _ in self.phases))

    @property
    def phases(self) -> tuple[tuple[str, tuple[LayerPlan, ...]], ...]:
        """Those that there are, with their plans."""
        return (("online", self.plan.layers), *((("offline", self.plan.offline),) if self.plan.offline else ()))

    def component_s(self, name: str) -> float:
        """Seconds of one component, both phases together."""

        def of(run: dict[str, Any]) -> float:
            return sum(_components(run[phase], planned, self.deployment)[name] for phase, planned in self.phases)

        return self.typical(of)


def sessions_of(
    jobs: dict[str, Any], known: dict[str, Any], quiet_reference_s: float, deployments: Mapping[str, Deployment]
) -> Iterator[Session]:
    """All sessions that were measured, by what the jobs say of them; visits of one network are one session."""
    visits: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    cases: dict[str, list[Unseen]] = {}
    for job, held in known.items():
        if job.startswith(("layers", "network", "workers")):
            network = job.partition("/")[0]
            cases.setdefault(network, cases_of(jobs[job]))
            for name, session in held.items():
                visits[network, name].append(session)
    for (network, name), sessions in visits.items():
        case, over = cases[network][sessions[0]["case"]], sessions[0]["over"]
        runs = [run for session in sessions for run in session["runs"]]
        slow = [_slowdown(run, quiet_reference_s, loopback=over == "loopback") for run in runs]
        yield Session(
            network,
            name,
            over,
            plan_network(case.network, case.agreement, sessions[0]["schedule"]),
            deployments[over],
            tuple(runs),
            tuple(_levelled(*each) for each in zip(runs, slow, strict=True)),
            tuple(each.mean for each in slow),
        )


def _slowdown(run: dict[str, Any], quiet_reference_s: float, *, loopback: bool) -> Slowdown:
    read = run["reference_s"]  # records of before hold the client's core alone
    reading = (read[0], read[1]) if isinstance(read, list) else (read, read)
    return Slowdown.of(reading, quiet_reference_s, loopback=loopback)


def _levelled(run: dict[str, Any], slow: Slowdown) -> dict[str, Any]:
    return {phase: run[phase] and _levelled_phase(run[phase], slow) for phase in ("online", "offline")}


def _levelled_phase(phase: dict[str, Any], slow: Slowdown) -> dict[str, Any]:
    pairs = [
        levelled(LayerTimes(*client), LayerTimes(*server), slow)
        for client, server in zip(phase["client"], phase["server"], strict=True)
    ]
    clients, servers = ([list(astuple(times)) for times in party] for party in zip(*pairs, strict=True))
    return {"latency_s": sum(client.total_s for client, _ in pairs), "client": clients, "server": servers}


def _components(phase: dict[str, Any], planned: Sequence[LayerPlan], deployment: Deployment) -> dict[str, float]:
    """Seconds of a phase by component; the link is what no clock of either party accounts for.

    `compute` is what machines alone would take: all but the link, what hides behind one another once.
    """
    client, server = np.array(phase["client"]), np.array(phase["server"])
    hidden = alone = 0.0
    for layer, mine, theirs in zip(planned, client, server, strict=True):
        stages = [theirs[GC], mine[GC] + mine[SPILL]]
        alone += hidden_s(layer.work, stages)
        hidden += hidden_s(layer.work, [*stages, tables_s(layer.work, deployment).typical_s])
    found = {
        "he": client[:, HE].sum() + server[:, [HE, CLEAR]].sum(),
        "ot": client[:, OT].sum() + server[:, OT].sum(),
        "garbling": client[:, GC].sum() + server[:, GC].sum(),
    }
    everything = sum(found.values()) + client[:, [SPILL, OTHER]].sum() + server[:, SPILL].sum()
    link_s = max(LEAST_LINK_S, phase["latency_s"] - everything + hidden)
    return found | {"compute": everything - alone, "link": link_s}
