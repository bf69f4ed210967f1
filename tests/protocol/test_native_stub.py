"""The committed stubs are what nanobind would write for the built extensions."""

from importlib.resources import files
from types import ModuleType

import pytest
from nanobind.stubgen import StubGen

from autoprivacy.protocol import _native, _ring


@pytest.mark.parametrize("module", [_native, _ring], ids=["_native", "_ring"])
def test_stub_is_current(module: ModuleType) -> None:
    generator = StubGen(module)
    generator.put(module)
    name = module.__name__.rpartition(".")[2]
    committed = (files("autoprivacy.protocol") / f"{name}.pyi").read_text(encoding="utf-8")
    assert generator.get() == committed
