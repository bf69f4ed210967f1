"""The folders are what DESIGN.md says they are: imports point one way, and nothing is ever unpickled."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_USE = {
    "common": set[str](),
    "networks": {"common"},
    "hwprofiles": {"common"},
    "protocol": {"common", "networks"},
    "profiler": {"common", "networks", "protocol", "hwprofiles"},
    "models": {"common", "networks", "protocol", "hwprofiles"},
    "agent": {"common", "networks", "protocol", "hwprofiles", "profiler", "models"},
    "cli": {"common", "networks", "protocol", "hwprofiles", "profiler", "models", "agent"},
}

SPREADING = {
    "joblib.Parallel",
    "joblib.delayed",
    "joblib.parallel_config",
    "joblib.externals.loky.process_executor.TerminatedWorkerError",
}
"""What of joblib sends work to our own processes, and reads no files."""

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in `tree`, with what is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole module"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def subpackages(tree: ast.AST) -> set[str]:
    return {module.split(".")[1] for module in imported(tree) if module.startswith("autoprivacy.")}


PACKAGED = [path for folder in MAY_USE for path in sources(folder)]
ALL = [path for folder in (*MAY_USE, "tests", "benchmarks") for path in sources(folder)]


def test_the_rule_covers_every_folder_of_the_package() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/py.typed")}
    assert folders == set(MAY_USE)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"autoprivacy/{folder}" = "{folder}"' in text for folder in folders)


@pytest.mark.parametrize("path", PACKAGED, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    used = subpackages(ast.parse(path.read_text(encoding="utf-8")))
    assert used <= MAY_USE[own] | {own}


def test_the_rule_itself_has_no_circles() -> None:
    for folder, used in MAY_USE.items():
        assert all(folder not in MAY_USE[other] for other in used)


def test_imports_are_seen_wherever_they_stand() -> None:
    text = (
        "import autoprivacy.cli.x\ndef f():\n    from autoprivacy import agent\n    from autoprivacy.models.x import y"
    )
    assert subpackages(ast.parse(text)) == {"cli", "agent", "models"}


@pytest.mark.parametrize("folder", MAY_USE)
def test_every_subpackage_is_typed_and_described(folder: str) -> None:
    assert (ROOT / folder / "py.typed").exists()
    assert ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8")))


def test_the_root_is_a_namespace() -> None:
    assert not (ROOT / "__init__.py").exists()


def unpickles(tree: ast.AST) -> list[str]:
    """What in `tree` could run code from a file."""
    found = [module for module in imported(tree) if module.split(".")[0] in UNPICKLERS and module not in SPREADING]
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "weights_only"}:
            safe = node.arg == "weights_only"
            if not (isinstance(node.value, ast.Constant) and node.value.value is safe):
                found.append(node.arg)
        elif isinstance(node, ast.Attribute) and node.attr in {"read_pickle", "to_pickle"}:
            found.append(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"torch.load", "torch.save", "eval", "exec"}:
            found.append(ast.unparse(node.func))
    return found


@pytest.mark.parametrize("path", ALL, ids=name)
def test_nothing_is_ever_unpickled(path: Path) -> None:
    assert unpickles(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "np.load(p, allow_pickle=True)",
        "np.load(p, allow_pickle=x)",
        "torch.load(p)",
    ],
)
def test_unpickling_would_be_seen(text: str) -> None:
    assert unpickles(ast.parse(text))
