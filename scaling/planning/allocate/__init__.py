"""From a law to a decision: the N and D of a budget, or the least budget of a loss."""

from scaling.currency import Currency as Currency
from scaling.planning.allocate.allocation import Allocation as Allocation
from scaling.planning.allocate.allocation import allocate as allocate
from scaling.planning.allocate.problem import Line as Line
from scaling.planning.allocate.problem import Problem as Problem
from scaling.planning.allocate.subject import Subject as Subject
from scaling.planning.allocate.subject import given as given
