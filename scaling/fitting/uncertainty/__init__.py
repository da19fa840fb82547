"""How far the answer could be off: bootstrap refits, profile likelihoods, narrower windows, seed noise.

The bootstrap refits every resample to its own optimum. It knows only the runs it was given: what the law itself may
have wrong shows in how the answer moves between windows, which is why both are reported.
"""

from scaling.fitting.uncertainty.answers import answer as answer
from scaling.fitting.uncertainty.answers import flat_band as flat_band
from scaling.fitting.uncertainty.answers import planned as planned
from scaling.fitting.uncertainty.answers import sizes as sizes
from scaling.fitting.uncertainty.bootstrap import draw_priors as draw_priors
from scaling.fitting.uncertainty.bootstrap import interval as interval
from scaling.fitting.uncertainty.bootstrap import refit as refit
from scaling.fitting.uncertainty.bootstrap import resample as resample
from scaling.fitting.uncertainty.bootstrap import widen as widen
from scaling.fitting.uncertainty.bootstrap import widening as widening
from scaling.fitting.uncertainty.noise import Noise as Noise
from scaling.fitting.uncertainty.noise import noise as noise
from scaling.fitting.uncertainty.profile import Profile as Profile
from scaling.fitting.uncertainty.profile import dispersion as dispersion
from scaling.fitting.uncertainty.profile import profile as profile
from scaling.fitting.uncertainty.profile import profile_answers as profile_answers
from scaling.fitting.uncertainty.profile import profile_of as profile_of
from scaling.fitting.uncertainty.windows import Window as Window
from scaling.fitting.uncertainty.windows import as_json as as_json
from scaling.fitting.uncertainty.windows import budget_edges as budget_edges
from scaling.fitting.uncertainty.windows import leave_out as leave_out
from scaling.fitting.uncertainty.windows import shifts as shifts
from scaling.fitting.uncertainty.windows import windows as windows
