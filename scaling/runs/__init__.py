"""Run: the record of one training run on disk. Runs: the table of many in memory. The hinge of the two halves."""

from scaling.runs.record import SCHEMA as SCHEMA
from scaling.runs.record import Run as Run
from scaling.runs.record import record_paths as record_paths
from scaling.runs.table import Runs as Runs
from scaling.runs.write import to_json as to_json
from scaling.runs.write import write_whole as write_whole
