"""What every test shares: strict jax, and where the published run tables are."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the published run tables: SCALING_DATA, or `shared/data` beside the checkout."""
    named = os.environ.get("SCALING_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "chinchilla_epoch.csv").exists():
        reason = f"no chinchilla_epoch.csv in {folder}; set SCALING_DATA to a folder that has it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
