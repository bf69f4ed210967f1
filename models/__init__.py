"""Predict: operation, layer and network latency models, from a plan on a deployment."""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from autoprivacy.models.comparison import Comparison
    from autoprivacy.models.deployments import Names
    from autoprivacy.models.latency import compare, predict
    from autoprivacy.models.latency_report import LatencyReport
    from autoprivacy.models.prediction import Prediction
    from autoprivacy.models.report import render

__all__ = ["Comparison", "LatencyReport", "Names", "Prediction", "compare", "predict", "render"]

_MODULES: Final = {
    "Comparison": "comparison",
    "LatencyReport": "latency_report",
    "Names": "deployments",
    "Prediction": "prediction",
    "compare": "latency",
    "predict": "latency",
    "render": "report",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what a module holds may be anything
    """What is exported, imported when it is first asked for."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"autoprivacy.models.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
