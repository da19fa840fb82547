"""Imports only point up the list in DESIGN: the source is read, nothing is imported."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "scaling"

#: What each layer may import of the project, besides itself.
SHARED = {"shape", "currency", "recipe", "grid", "runs", "hardware"}
MAY = {
    "shape": set(),
    "currency": {"shape"},
    "recipe": {"shape"},
    "grid": {"shape", "recipe"},
    "runs": {"shape", "recipe", "grid"},
    "hardware": set(),
    "training": SHARED,
    "fitting": SHARED,
    "planning": SHARED | {"fitting"},
    "reporting": SHARED | {"fitting", "planning"},
    "workflows": SHARED | {"training", "fitting", "planning", "reporting"},
}
MAY["cli"] = set(MAY)

#: Third-party packages that a layer never imports.
NEVER = {layer: {"jax", "matplotlib", "optax"} for layer in SHARED} | {
    "training": {"matplotlib"},
    "fitting": {"matplotlib", "optax"},
    "planning": {"matplotlib", "optax"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer_of(path: Path) -> str:
    """The layer that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or not path.name.startswith("__"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_up(path):
    layer = layer_of(path)
    inside = {name.split(".")[1] for name in imports(path) if name.startswith("scaling.") and name.count(".")}
    below = inside - MAY[layer] - {layer}
    assert not {name for name in below if name in MAY}, f"{layer} imports {below}"
    outside = {name.split(".")[0] for name in imports(path)}
    assert not outside & NEVER.get(layer, set())


def test_importing_the_package_is_light():
    code = (
        "import sys, jax; before = jax.config.values.copy(); import scaling; "
        "[getattr(scaling, name) for name in scaling.__all__ if name != 'figures']; "
        "assert not [m for m in sys.modules if m.startswith('scaling.training')], 'training'; "
        "assert 'matplotlib' not in sys.modules and 'optax' not in sys.modules; "
        "assert before == jax.config.values, 'jax.config'; scaling.figures.isoflop"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom scaling.cli import main\n"
        "try: main(['fit', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'jax', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_public_names_are_those_that_type_checkers_see():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    told = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module.startswith("scaling")
            for alias in node.names}  # fmt: skip
    import scaling

    assert told == set(scaling.__all__)
    assert all(getattr(scaling, name) for name in told)
