"""numba keeps a compiled function on disk until the function's own file changes: all that it uses must be in there."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("xtoken_core", "storage", "flows", "trainer", "benchmarks")


def foreign_globals(tree: ast.Module) -> set[str]:
    """The names at the top of a module that other modules of the project determine."""
    foreign: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] in PACKAGES):
            foreign |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            ours = [alias for alias in node.names if alias.name.split(".")[0] in PACKAGES]
            foreign |= {alias.asname or alias.name.split(".")[0] for alias in ours}
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value and names_in(node.value) & foreign:
            foreign |= {name for target in getattr(node, "targets", [node]) for name in names_in(target)}
    return foreign


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def is_compiled(function: ast.FunctionDef) -> bool:
    return any("njit" in ast.unparse(decorator) for decorator in function.decorator_list)


def stale_globals(source: str) -> list[str]:
    """What compiled functions of a module use of other modules, as "function uses name"."""
    tree = ast.parse(source)
    foreign = foreign_globals(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and is_compiled(node)]
    used = {function.name: set().union(*map(names_in, function.body)) for function in functions}
    return [f"{name} uses {other}" for name, names in used.items() for other in sorted(names & foreign)]


def compiled_modules() -> list[Path]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in paths if "njit" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", compiled_modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_compiled_functions_use_nothing_of_other_files(path: Path) -> None:
    assert stale_globals(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("top", "body", "expected"),
    [
        ("from xtoken_core.prefix_order import paint", "paint(x)", ["f uses paint"]),
        ("from xtoken_core.prefix_order import paint as p", "y = p(x)", ["f uses p"]),
        ("from .prefix_order import paint", "paint(x)", ["f uses paint"]),
        ("import xtoken_core.roles as roles", "roles.g(x)", ["f uses roles"]),
        ("from xtoken_core.chunks import Kind\n_A = int(Kind.A)\n_B: int = 1 << _A", "x = _B", ["f uses _B"]),
        ("import numpy as np\n_A = 1\ndef g(): pass", "g(np.zeros(_A))", []),
        ("from xtoken_core.chunks import Kind\n_A = 0\nassert _A == Kind.A", "x = _A", []),
    ],
)
def test_the_rule_notices(top: str, body: str, expected: list[str]) -> None:
    assert stale_globals(f"{top}\n@njit(nogil=True, cache=True)\ndef f(x: Kind) -> Kind:\n    {body}") == expected
