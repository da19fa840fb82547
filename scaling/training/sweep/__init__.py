"""plan(grid, folder): what is missing, in which order, how much; sweep(grid, folder): train it, show how it goes."""

from scaling.training.sweep.choice import chosen as chosen
from scaling.training.sweep.plan import Plan as Plan
from scaling.training.sweep.plan import plan as plan
from scaling.training.sweep.speeds import Speeds as Speeds
from scaling.training.sweep.status import Now as Now
from scaling.training.sweep.status import Status as Status
from scaling.training.sweep.status import Watch as Watch
from scaling.training.sweep.sweep import carry_out as carry_out
from scaling.training.sweep.sweep import estimate_seconds as estimate_seconds
from scaling.training.sweep.sweep import retry_failed as retry_failed
from scaling.training.sweep.sweep import retrying as retrying
from scaling.training.sweep.sweep import sweep as sweep
from scaling.training.sweep.sweep import train_specs as train_specs
