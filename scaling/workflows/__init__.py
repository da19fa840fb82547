"""What needs both halves, training and fitting: quickstart, autopilot."""

from scaling.workflows.autopilot import Round as Round
from scaling.workflows.autopilot import autopilot as autopilot
from scaling.workflows.before import design_warning as design_warning
from scaling.workflows.before import sweep_cost as sweep_cost
from scaling.workflows.quickstart import Answer as Answer
from scaling.workflows.quickstart import quickstart as quickstart
from scaling.workflows.quickstart import quickstart_grid as quickstart_grid
