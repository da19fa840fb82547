"""Dollars, device-hours, kWh, kg CO2e and bytes of training and serving."""

from scaling.planning.cost.architectures import Architecture as Architecture
from scaling.planning.cost.architectures import Memory as Memory
from scaling.planning.cost.architectures import serving_memory as serving_memory
from scaling.planning.cost.architectures import training_memory as training_memory
from scaling.planning.cost.costs import Cost as Cost
from scaling.planning.cost.costs import cost as cost
from scaling.planning.cost.costs import of_hours as of_hours
from scaling.planning.cost.rates import Fact as Fact
from scaling.planning.cost.rates import Preemption as Preemption
from scaling.planning.cost.rates import Rates as Rates
