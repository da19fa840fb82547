"""RunSpec: one run, fixed completely; Grid: a grid.toml and the RunSpecs it stands for."""

from scaling.grid.cells import LENGTHS as LENGTHS
from scaling.grid.cells import Cells as Cells
from scaling.grid.cells import IsoFlop as IsoFlop
from scaling.grid.grid import Grid as Grid
from scaling.grid.read import KEYS as KEYS
from scaling.grid.spec import EVAL_TOKENS as EVAL_TOKENS
from scaling.grid.spec import RunSpec as RunSpec
