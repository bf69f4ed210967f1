"""The committed stub is what nanobind would write for the built extension."""

from importlib.resources import files

from nanobind.stubgen import StubGen

from autoprivacy.protocol import _native


def test_stub_is_current() -> None:
    generator = StubGen(_native)
    generator.put(_native)
    committed = (files("autoprivacy.protocol") / "_native.pyi").read_text(encoding="utf-8")
    assert generator.get() == committed
