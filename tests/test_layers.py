"""Who may import whom: every module of the project is parsed, imports inside functions and by name included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("xtoken_core", "storage", "flows", "trainer", "benchmarks")
OURS = {*PACKAGES, "tests"}

# What each package may not import: top-level names, of ours and of others.
FORBIDDEN = {
    "xtoken_core": (OURS - {"xtoken_core"}) | {"prefect", "prefect_ray", "ray", "pyarrow", "polars"},
    "storage": (OURS - {"storage", "xtoken_core"}) | {"prefect", "prefect_ray", "ray"},
    "flows": {"benchmarks", "tests", "ray"},
    "trainer": {"flows", "benchmarks", "tests", "prefect", "prefect_ray"},
    "benchmarks": {"tests"},
}
TRAINER_DOORS = ("trainer.job", "trainer.loss_settings", "trainer.run", "trainer.ray_session")
# Where a flow's own work runs on a Ray cluster.
RAY_IN_FLOWS = "flows.ray_runner"


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything that `source`, the text of the module `module`, imports.

    `from a import b` gives "a.b"; `module` is the dotted name of the file, "package.__init__" for a package itself.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node.module or "", node.level, module)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and callee(node.func) in ("import_module", "__import__"):
            yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))


def absolute(name: str, level: int, module: str) -> str:
    if level == 0:
        return name
    base = module.split(".")[:-level]
    return ".".join([*base, name] if name else base)


def callee(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def breaks_the_rule(package: str, imported: str, module: str = "") -> bool:
    top = imported.split(".")[0]
    if top == "ray" and module == RAY_IN_FLOWS:
        return False
    if top in FORBIDDEN[package]:
        return True
    if package == "flows" and top == "trainer":
        return not any(imported == door or imported.startswith(f"{door}.") for door in TRAINER_DOORS)
    return False


def violations(package: str) -> list[str]:
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for line, imported in imports(path.read_text(encoding="utf-8"), module):
            if breaks_the_rule(package, imported, module):
                found.append(f"{path.relative_to(ROOT)}:{line} imports {imported}")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_its_layer_may(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert violations(package) == []


def test_every_package_of_the_project_has_a_rule() -> None:
    on_disk = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert on_disk == set(FORBIDDEN) == set(PACKAGES)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("xtoken_core", "import pyarrow as pa"),
        ("xtoken_core", "def f():\n    from storage.columns import to_list_array"),
        ("xtoken_core", "if TYPE_CHECKING:\n    import ray"),
        ("xtoken_core", "import importlib\nimportlib.import_module('prefect.flows')"),
        ("xtoken_core", "__import__('trainer')"),
        ("storage", "import numpy, flows.config"),
        ("storage", "class A:\n    import ray.data"),
        ("storage", "from trainer.job import TrainJob"),
        ("flows", "try:\n    import ray\nexcept ImportError:\n    pass"),
        ("flows", "from trainer.data import Batches"),
        ("flows", "from trainer import data"),
        ("flows", "import trainer"),
        ("flows", "from trainer.jobs import x"),
        ("flows", "from benchmarks import quickstart"),
        ("trainer", "from prefect import flow"),
        ("trainer", "from flows.config import RunConfig"),
        ("trainer", "import tests.fakes"),
    ],
)
def test_the_rule_notices(package: str, source: str) -> None:
    assert any(breaks_the_rule(package, name) for _, name in imports(source, f"{package}.module"))


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("xtoken_core", "import numpy\nfrom .ragged import Ragged\nfrom xtoken_core import ragged"),
        ("storage", "import pyarrow\nfrom xtoken_core.ragged import Ragged\nfrom . import columns"),
        ("flows", "import prefect\nfrom trainer.job import TrainJob\nfrom trainer import run\nimport trainer.run"),
        ("trainer", "import ray\nimport raymond\nfrom storage import columns"),
        ("benchmarks", "import flows, trainer, storage, xtoken_core"),
    ],
)
def test_the_rule_allows(package: str, source: str) -> None:
    assert not any(breaks_the_rule(package, name) for _, name in imports(source, f"{package}.module"))


def test_relative_imports_are_resolved_from_the_importing_file() -> None:
    assert [name for _, name in imports("from ..ragged import Ragged", "xtoken_core.align.walk")] == [
        "xtoken_core.ragged.Ragged"
    ]
    assert [name for _, name in imports("from .walk import walk", "xtoken_core.align.__init__")] == [
        "xtoken_core.align.walk.walk"
    ]
