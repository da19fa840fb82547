"""The batched solver, its starts and its certificate."""

from scaling.fitting.solve.certificate import Basin as Basin
from scaling.fitting.solve.certificate import Certificate as Certificate
from scaling.fitting.solve.certificate import solve as solve
from scaling.fitting.solve.newton import STATUS as STATUS
from scaling.fitting.solve.newton import Solution as Solution
from scaling.fitting.solve.newton import cores as cores
from scaling.fitting.solve.newton import float64 as float64
from scaling.fitting.solve.newton import look as look
from scaling.fitting.solve.newton import minimise as minimise
from scaling.fitting.solve.problem import FitError as FitError
from scaling.fitting.solve.problem import Problem as Problem
from scaling.fitting.solve.starts import propose as propose
