"""fit: a table of runs -> the law that describes it best, certified, with intervals and warnings."""

from scaling.fitting.fit.card import ALL_RUNS as ALL_RUNS
from scaling.fitting.fit.card import FIELDS as FIELDS
from scaling.fitting.fit.card import Fit as Fit
from scaling.fitting.fit.estimate import fit as fit
from scaling.fitting.fit.estimate import profiles as profiles
from scaling.fitting.pose import pose as pose
from scaling.fitting.solve import FitError as FitError
