"""Training: one run, a trunk with its branches, or many runs of one shape at once; each to the record of what it cost."""

from scaling.training.train.branches import train_branches as train_branches
from scaling.training.train.course import Progress as Progress
from scaling.training.train.course import Watch as Watch
from scaling.training.train.errors import DeviceLost as DeviceLost
from scaling.training.train.errors import Diverged as Diverged
from scaling.training.train.errors import Interrupted as Interrupted
from scaling.training.train.errors import OutOfMemory as OutOfMemory
from scaling.training.train.evaluate import evaluate as evaluate
from scaling.training.train.evaluate import evaluate_windows as evaluate_windows
from scaling.training.train.many import train_many as train_many
from scaling.training.train.run import measure as measure
from scaling.training.train.run import train as train
from scaling.training.train.schedule import chunk_steps as chunk_steps
from scaling.training.train.schedule import learning_rates as learning_rates
from scaling.training.train.trackers import TRACKERS as TRACKERS
from scaling.training.train.trackers import Tracker as Tracker
from scaling.training.train.trackers import choose_trackers as choose_trackers
from scaling.training.train.trackers import chosen_trackers as chosen_trackers
from scaling.training.train.trackers import require_trackers as require_trackers
