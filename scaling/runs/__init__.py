"""Run: the record of one training run on disk. Runs: the table of many in memory. The hinge of the two halves."""

from typing import TYPE_CHECKING, Any

from scaling.runs.record import SCHEMA as SCHEMA
from scaling.runs.record import Run as Run
from scaling.runs.record import record_names as record_names
from scaling.runs.record import record_paths as record_paths
from scaling.runs.record import refuse_record as refuse_record
from scaling.runs.write import cache_folder as cache_folder
from scaling.runs.write import read_object as read_object
from scaling.runs.write import to_json as to_json
from scaling.runs.write import write_whole as write_whole

if TYPE_CHECKING:
    from scaling.runs.table import Runs as Runs


def __getattr__(name: str) -> Any:
    """`Runs` brings pandas, which looking at a sweep need not wait for."""
    if name == "Runs":
        from scaling.runs.table import Runs

        return Runs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
