"""What ends a run before its last step."""

from __future__ import annotations


class Diverged(Exception):
    """A run whose loss is no longer a number, has risen and stayed up, or is worse than guessing."""


class Interrupted(Exception):
    """A run that was asked to stop, and has kept its state."""


class OutOfMemory(ValueError):
    """A run that its device cannot hold, so that trying again is of no use; the message says what would fit."""


class DeviceLost(Exception):
    """The device is gone, or answers no more. The process is of no further use; another goes on from the checkpoint."""
