"""Figures of `benchmarks.prediction`: what models predict beside what was measured, as errors, intervals and order."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np

from autoprivacy.common.records import parse
from autoprivacy.hwprofiles.link_profile import LinkProfile
from autoprivacy.hwprofiles.machine_profile import MachineProfile
from autoprivacy.hwprofiles.samples import Sample
from autoprivacy.models.link_model import fit_link
from autoprivacy.models.machine_model import LAYER_LEVEL, NETWORK_LEVEL, MachineModel, fit
from autoprivacy.models.operation_model import OPERATION_LEVEL
from autoprivacy.models.prediction import Components, Deployment, LayerPrediction, predict
from autoprivacy.profiler.profile import sample_of
from autoprivacy.profiler.statistics import quiet
from benchmarks.document import Document, Target
from benchmarks.prediction_baselines import formula_deployment, formula_of, uncorrected
from benchmarks.prediction_sessions import Session, sessions_of
from benchmarks.unseen import setting_key

TARGETS: Final = {
    "operation_mape_pct": Target("at most", 3),
    "operation_points": Target("at least", 300),
    "operation_within_10pct": Target("at least", 99),
    "layer_mape_pct": Target("at most", 5),
    "layer_points": Target("at least", 60),
    "layer_within_12pct": Target("at least", 95),
    "layer_pair_order_pct": Target("at least", 95),
    "network_mape_pct": Target("at most", 6),
    "network_compute_mape_pct": Target("at most", 6),
    "he_mape_pct": Target("at most", 10),
    "garbling_mape_pct": Target("at most", 10),
    "ot_mape_pct": Target("at most", 10),
    "link_mape_pct": Target("at most", 10),
    "coverage_ok": Target("at least", 1),
}
COMPONENTS: Final = {
    "he": ("client_he_s", "server_he_s", "clear_s"),
    "garbling": ("garble_s", "evaluate_s"),
    "ot": ("ot_s",),
    "link": ("link_s",),
}
WIDEST: Final = 3.0
"""Intervals are too wide if half of one is typically more than so many times the error."""

LEVEL: Final = 0.99
PAIR_LOW, PAIR_HIGH = 1.05, 1.5
"""Pairs of policies are asked for whose times differ by as much."""


@dataclass(frozen=True, slots=True)
class Point:
    """Something predicted and measured, in seconds; `half_width` is that of its interval, relative."""

    name: str
    predicted_s: float
    measured_s: float
    half_width: float = 0.0

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted_s / self.measured_s - 1

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.predicted_s / (1 + self.half_width) <= self.measured_s <= self.predicted_s * (1 + self.half_width)


def add_figures(document: Document, jobs: dict[str, Any], known: dict[str, Any], profile: MachineProfile) -> None:
    """Put all figures, and what lies behind them, into the document."""
    model = replace(fit(profile), slowdown_median=1.0)  # what is measured is at the machine's quiet speed, too
    blocks = _blocks(known)
    quiet_reference_s = quiet([beside for found in blocks.values() for _, beside in found])
    document.conditions["reference_quiet_s"] = [profile.header.conditions.reference_quiet_s, quiet_reference_s]
    document.context["operations"] = _add_operations(document, blocks, quiet_reference_s, profile, model)
    links = {
        name.split()[1]: fit_link(parse(LinkProfile, held, source=name))
        for name, held in known.items()
        if "link" in name
    }
    deployments = {"loopback": Deployment(model, model)} | {
        name: Deployment(model, model, link) for name, link in links.items()
    }
    # As a confirmation does: the model's seconds are at the speed that the profile calls quiet.
    sessions = list(sessions_of(jobs, known, profile.header.conditions.reference_quiet_s, deployments))
    layers = [each for each in sessions if each.job.startswith("layers")]
    networks = [each for each in sessions if each.job.startswith("network")]
    document.context["layers"] = _add_layers(document, layers, deployments["loopback"], profile)
    document.context["networks"] = _add_networks(document, networks, deployments, profile)
    document.context["workers"] = _workers([each for each in sessions if each.job.startswith("workers")], model)
    covered = [document.context[name]["coverage"] for name in ("operations", "layers", "networks")]
    document.figures["coverage_ok"] = float(all(each["ok"] for each in covered))


def mape(points: Iterable[Point]) -> float:
    """Mean absolute error in percent.

    >>> mape([Point("", 1.1, 1.0), Point("", 0.9, 1.0)])
    10.0
    """
    return round(100 * float(np.mean([abs(point.error) for point in points])), 4)


def within(points: Sequence[Point], share: float) -> float:
    """How many percent err by at most a share."""
    return round(100 * float(np.mean([abs(point.error) <= share for point in points])), 3)


def coverage(points: Sequence[Point], nominal: float) -> dict[str, Any]:
    """Whether intervals hold what they say, and are no wider than they need be.

    The exact binomial interval [Clopper and Pearson] of the coverage must hold the nominal one.
    """
    from scipy.stats import beta

    count, held = len(points), sum(point.covered for point in points)
    tail = (1 - LEVEL) / 2
    low = float(beta.ppf(tail, held, count - held + 1)) if held else 0.0
    high = float(beta.ppf(1 - tail, held + 1, count - held)) if held < count else 1.0
    half_width, error = float(np.median([point.half_width for point in points])), mape(points) / 100
    return {
        "n": count,
        "nominal": nominal,
        "covered": held / count,
        "interval": [low, high],
        "median_half_width": half_width,
        "half_width_over_error": half_width / error,
        "ok": low <= nominal <= high and half_width <= WIDEST * error,
    }


def order(groups: Iterable[Sequence[Point]]) -> tuple[float, int]:
    """Of pairs within a group whose measured times differ by 5 to 50 %: how many percent are ordered rightly, and n."""
    right = [
        (one.predicted_s < other.predicted_s) == (one.measured_s < other.measured_s)
        for group in groups
        for one, other in combinations(group, 2)
        if PAIR_LOW <= max(one.measured_s, other.measured_s) / min(one.measured_s, other.measured_s) <= PAIR_HIGH
    ]
    return (round(100 * float(np.mean(right)), 3) if right else 0.0), len(right)


def _rows(points: Sequence[Point]) -> list[list[Any]]:
    return [
        [p.name, float(f"{p.predicted_s:.5g}"), float(f"{p.measured_s:.5g}"), round(p.half_width, 4)] for p in points
    ]


def _blocks(known: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    blocks: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, held in known.items():
        if name.startswith("operations"):
            for key, found in held:
                blocks[key] += [(seconds, beside) for seconds, beside in found]
    return blocks


def _add_operations(
    document: Document,
    blocks: dict[str, list[tuple[float, float]]],
    quiet_reference_s: float,
    profile: MachineProfile,
    model: MachineModel,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    samples = [sample_of(key, found, quiet_reference_s, rng) for key, found in sorted(blocks.items())]
    seen, predictor = {setting_key(sample) for sample in profile.samples}, model.predictor()
    unseen = {setting_key(sample): sample for sample in samples if setting_key(sample) not in seen}
    ours = [sample for sample in unseen.values() if sample.operation != "transfer"]
    named = [(sample, predictor.operation(sample)) for sample in ours]
    points = [Point(_named(s), own.quiet_s(s), s.quiet_s, own.doubt_of(s)) for s, own in named]
    typicals = [Point(_named(s), own.typical_s(s), s.typical_s) for s, own in named]
    frames = [s for s in unseen.values() if s.operation == "transfer"]
    document.figures |= {
        "operation_mape_pct": mape(points),
        "operation_points": float(len(points)),
        "operation_within_10pct": within(points, 0.1),
    }
    by_operation: dict[str, list[Point]] = defaultdict(list)
    for (_, own), point in zip(named, points, strict=True):
        by_operation[str(own.key)].append(point)
    formula = formula_of(profile)
    of_sets = [sample for sample in ours if sample.n]
    return {
        "coverage": coverage(points, OPERATION_LEVEL),
        "typical_mape_pct": mape(typicals),
        "by_operation": {
            name: {"n": len(found), "mape_pct": mape(found), "within_10pct": within(found, 0.1)}
            for name, found in sorted(by_operation.items())
        },
        "misses": _rows([point for point in points if abs(point.error) > 0.1]),
        "loopback_frames_mape_pct": mape([Point("", predictor.seconds(s).quiet_s, s.quiet_s) for s in frames]),
        "of_sets_mape_pct": mape([each for each, (sample, _) in zip(points, named, strict=True) if sample.n]),
        "one_formula_of_sets_mape_pct": mape([Point("", formula(s), s.quiet_s) for s in of_sets]),
        "points": _rows(points),
    }


def _named(sample: Sample) -> str:
    sizes = f"n={sample.n} L={sample.limbs}x{sample.limb_bits} " if sample.n else ""
    return f"{sample.operation} {sample.kernel} {sizes}t={sample.t_bits} items={sample.items} values={sample.values}"


def _add_layers(
    document: Document, sessions: Sequence[Session], deployment: Deployment, profile: MachineProfile
) -> dict[str, Any]:
    points: dict[tuple[str, str], list[Point]] = defaultdict(list)
    others: dict[str, list[Point]] = defaultdict(list)
    plain, formula = uncorrected(deployment), formula_deployment(deployment, profile)
    for session in sessions:
        predictions = {
            name: predict(session.plan, each).layers for name, each in (("", deployment), ("additive", plain))
        }
        for index, layer in enumerate(session.plan.layers):
            measured = session.typical(session.layer_s(index))
            name = f"{session.job} {session.name} {layer.name}"
            own = predictions[""][index]
            point = Point(name, own.components.total_s, measured, own.high_s / own.components.total_s - 1)
            points[session.job, layer.name].append(point)
            added = predictions["additive"][index].components.total_s
            others["additive"].append(Point(name, added, measured))
            others["one_formula"].append(Point(name, formula(layer), measured))
            undisturbed = session.quiet(session.layer_s(index))
            others["quiet"].append(Point(name, own.quiet_s, undisturbed))
    flat = [point for group in points.values() for point in group]
    ordered, pairs = order(points.values())
    document.figures |= {
        "layer_mape_pct": mape(flat),
        "layer_points": float(len(flat)),
        "layer_within_12pct": within(flat, 0.12),
        "layer_pair_order_pct": ordered,
    }
    return {
        "coverage": coverage(flat, LAYER_LEVEL),
        "pairs": pairs,
        **{f"{name}_mape_pct": mape(found) for name, found in others.items()},
        "additive_pair_order_pct": order(_grouped(flat, others["additive"], points))[0],
        "one_formula_pair_order_pct": order(_grouped(flat, others["one_formula"], points))[0],
        "misses": _rows([point for point in flat if abs(point.error) > 0.12]),
        "points": _rows(flat),
    }


def _grouped(
    flat: Sequence[Point], others: Sequence[Point], points: dict[tuple[str, str], list[Point]]
) -> list[list[Point]]:
    """`others`, in the groups that `points` of the same names are in."""
    by_name = {point.name: point for point in others}
    assert len(flat) == len(by_name)  # noqa: S101 - names are distinct
    return [[by_name[point.name] for point in group] for group in points.values()]


def _workers(sessions: Sequence[Session], model: MachineModel) -> dict[str, Any]:
    """Networks whose server splits its layers among two processes."""
    if not sessions:
        return {}
    both, alone = Deployment(model, model, workers=2), Deployment(model, model)
    points, without = [], []
    for session in sessions:
        seconds = [predict(session.plan, each).latency_s for each in (both, alone)]
        points.append(Point(session.name, seconds[0], session.latency_s))
        without.append(Point(session.name, seconds[1], session.latency_s))
    return {"mape_pct": mape(points), "as_one_worker_mape_pct": mape(without), "points": _rows(points)}


def _add_networks(
    document: Document, sessions: Sequence[Session], deployments: dict[str, Deployment], profile: MachineProfile
) -> dict[str, Any]:
    totals, latencies = [], []
    others: dict[str, list[Point]] = defaultdict(list)
    for session in sessions:
        deployment, name = deployments[session.over], f"{session.job} {session.name}"
        found = predict(session.plan, deployment)
        total_s = found.latency_s + found.offline_s
        totals.append(Point(name, total_s, session.total_s))
        latencies.append(Point(name, found.latency_s, session.latency_s, found.high_s / found.latency_s - 1))
        parts = _added([*found.layers, *found.offline])
        for component, names in COMPONENTS.items():
            seconds = sum(getattr(parts, each) for each in names)
            others[component].append(Point(name, seconds, session.component_s(component)))
        alone = predict(session.plan, _without_link(deployment))
        link_s = _added([*alone.layers, *alone.offline]).link_s
        compute_s = alone.latency_s + alone.offline_s - link_s
        others["compute"].append(Point(name, compute_s, session.component_s("compute")))
        plain = predict(session.plan, uncorrected(deployment))
        others["additive"].append(Point(name, plain.latency_s + plain.offline_s, session.total_s))
        formula = formula_deployment(deployment, profile)
        by_formula = sum(formula(layer) for _, planned in session.phases for layer in planned)
        others["one_formula"].append(Point(name, by_formula, session.total_s))
    document.figures |= {"network_mape_pct": mape(totals), "network_compute_mape_pct": mape(others["compute"])}
    document.figures |= {f"{name}_mape_pct": mape(others[name]) for name in COMPONENTS}
    local = [point for point, session in zip(totals, sessions, strict=True) if session.over == "loopback"]
    return {
        "coverage": coverage(latencies, NETWORK_LEVEL),
        "loopback_mape_pct": mape(local),
        "loopback_link_mape_pct": mape(
            point for point, session in zip(others["link"], sessions, strict=True) if session.over == "loopback"
        ),
        "additive_mape_pct": mape(others["additive"]),
        "one_formula_mape_pct": mape(others["one_formula"]),
        "points": _rows(totals),
        "latencies": _rows(latencies),
        "components": {name: _rows(others[name]) for name in (*COMPONENTS, "compute")},
    }


def _without_link(deployment: Deployment) -> Deployment:
    """Machines that work as between messages over its link, but over loopback: none of that hides behind the link."""
    return Deployment(deployment.server.over(deployment.round_trip_s), deployment.client.over(deployment.round_trip_s))


def _added(layers: Sequence[LayerPrediction]) -> Components:
    return Components(
        **{name: sum(getattr(layer.components, name) for layer in layers) for name in Components.__dataclass_fields__}
    )
