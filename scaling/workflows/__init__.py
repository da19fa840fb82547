"""What needs both halves, training and fitting: quickstart, autopilot."""

from scaling.workflows.autopilot import Round as Round
from scaling.workflows.autopilot import autopilot as autopilot
from scaling.workflows.quickstart import Answer as Answer
from scaling.workflows.quickstart import quickstart as quickstart
from scaling.workflows.quickstart import quickstart_grid as quickstart_grid
