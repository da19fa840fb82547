"""Scaling laws from real runs. A name is imported when it is first used, so that `scaling --help` answers at once.

Importing this imports neither training code nor matplotlib; only `scaling.figures` brings the latter.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.fitting.compare import compare as compare
    from scaling.fitting.fit import Fit as Fit
    from scaling.fitting.fit import fit as fit
    from scaling.fitting.isoflop import approach1 as approach1
    from scaling.fitting.isoflop import approach2 as approach2
    from scaling.fitting.laws import Chinchilla as Chinchilla
    from scaling.fitting.laws import Law as Law
    from scaling.fitting.solve import FitError as FitError
    from scaling.grid import Grid as Grid
    from scaling.grid import RunSpec as RunSpec
    from scaling.hardware import Accelerator as Accelerator
    from scaling.hardware import Region as Region
    from scaling.planning.allocate import Allocation as Allocation
    from scaling.planning.allocate import allocate as allocate
    from scaling.planning.cost import Cost as Cost
    from scaling.planning.cost import cost as cost
    from scaling.planning.design import design as design
    from scaling.recipe import Recipe as Recipe
    from scaling.reporting import figures as figures
    from scaling.runs import Run as Run
    from scaling.runs import Runs as Runs
    from scaling.shape import Shape as Shape

#: Module -> the public names that it gives, as above.
_NAMES = {
    "fitting.compare": "compare",
    "fitting.fit": "Fit fit",
    "fitting.isoflop": "approach1 approach2",
    "fitting.laws": "Chinchilla Law",
    "fitting.solve": "FitError",
    "grid": "Grid RunSpec",
    "hardware": "Accelerator Region",
    "planning.allocate": "Allocation allocate",
    "planning.cost": "Cost cost",
    "planning.design": "design",
    "recipe": "Recipe",
    "reporting": "figures",
    "runs": "Run Runs",
    "shape": "Shape",
}
_HOME = {name: f"scaling.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'scaling' has no attribute {name!r}")
    module = import_module(_HOME[name])
    return getattr(module, name, None) or import_module(f"{_HOME[name]}.{name}")
