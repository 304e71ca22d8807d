"""What every test shares. Imports nothing heavy, so that the tests of the tool stay quick."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports TensorFlow: no chatter, and no test takes the whole memory of a GPU from the next.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# Processes that tests start import this checkout, from whatever folder they run in.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT
