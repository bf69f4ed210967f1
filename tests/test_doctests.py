"""Run every example of a docstring under the name users import, installed or editable; benchmarks can be imported."""

import doctest
import importlib
import pkgutil

import pytest

import benchmarks

SUBPACKAGES = ("common", "networks", "protocol", "profiler", "hwprofiles", "models", "agent", "cli")


def module_names() -> list[str]:
    names = []
    for subpackage in SUBPACKAGES:
        package = importlib.import_module(f"autoprivacy.{subpackage}")
        names.append(package.__name__)
        names += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return names


@pytest.mark.parametrize("name", module_names())
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found() -> None:
    assert doctest.testmod(importlib.import_module("autoprivacy.common.records")).attempted >= 3


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(benchmarks.__path__)])
def test_benchmarks_can_be_imported(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"benchmarks.{name}")).failed == 0
