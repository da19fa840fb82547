"""Executors: who trains the tasks. When `run` returns, every finished cell has its record in the folder."""

from scaling.training.executors.engine import Executor as Executor
from scaling.training.executors.local import Local as Local
from scaling.training.executors.local import usable_cores as usable_cores
from scaling.training.executors.remote import Ray as Ray
from scaling.training.executors.remote import Slurm as Slurm
