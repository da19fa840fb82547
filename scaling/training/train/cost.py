"""What a run cost: its device, memory, arithmetic against the peak, and energy, each with how it is known."""

from __future__ import annotations

import importlib.util
import os
import platform
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from scaling.grid import RunSpec
from scaling.hardware import Accelerator
from scaling.training.train.errors import OutOfMemory

#: Power of a processor core under load, watts: Intel Xeon Platinum 8480+, 350 W of design power over 56 cores (ark.intel.com,
#: as of 2023-01). Only where the machine tells no energy.
WATTS_PER_CORE = 6.25

#: Average power in training over the board's limit, where a chip's own share is not known: that of an H100 (accelerators.csv).
POWER_SHARE = 0.75

#: Where Linux tells the energy of a processor's package.
RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """Energy from its beginning on: joules where the machine tells them, else power by time."""

    begin: float | None
    how: str

    @classmethod
    def start(cls) -> Meter:
        """A meter that begins now."""
        for read, how in ((_nvml_joules, "measured: NVML"), (_rapl_joules, "measured: RAPL, by share of the cores")):
            joules = read()
            if joules is not None:
                return cls(joules, how)
        watts, source = _watts()
        return cls(None, f"estimated: {watts:.4g} W ({source}) x time")

    def kwh(self, seconds: float) -> tuple[float, str]:
        """Kilowatt hours of the last `seconds` and how they are known.

        `seconds` is what an estimate is made with, and where a counter began again.
        """
        now = (_nvml_joules if "NVML" in self.how else _rapl_joules)() if self.begin is not None else None
        if now is not None and self.begin is not None and now >= self.begin:
            return (now - self.begin) / 3.6e6, self.how
        watts, source = _watts()
        return watts * seconds / 3.6e6, f"estimated: {watts:.4g} W ({source}) x time"


def machine() -> dict[str, Any]:
    """The device and the versions that a record names."""
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"cpu: {platform.processor() or platform.machine()}, {cores()} core(s)"
    elif jax.device_count() > 1:
        kind = f"{kind} x {jax.device_count()}"
    return {
        "device": kind,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("isoflop", "jax", "jaxlib", "numpy", "optax")},
        },
    }


def cores() -> int:
    """How many processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_of_peak(flops_per_second: float, precision: str, devices: int) -> float | None:
    """FLOP/s over the devices' dense peak in this precision; None where the peak is not known (a processor's is not)."""
    chip = _accelerator()
    try:
        # float32 products run as tf32 only where asked to; jax's default on NVIDIA is tf32 where the chip has it
        peak = chip.peak_flops("bf16" if precision == "bfloat16" else "tf32" if chip.tf32 else "fp32") if chip else None
    except ValueError:
        return None
    return flops_per_second / (peak * devices) if peak else None


def peak_memory_bytes() -> int:
    """The most memory used so far: of the device where it tells, summed over this process' devices; else of the process."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in each for each in stats):
        return sum(each["peak_bytes_in_use"] for each in stats)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_bytes() -> float:
    """Memory of one device that a run may take: what the device says, else the machine's."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return float(limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory was not enough."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def out_of_memory(spec: RunSpec, runs: int = 1) -> OutOfMemory:
    """The error that says what such a run needs, what there is, and what would fit, by `Shape.training_bytes`."""
    shape, recipe, limit = spec.shape, spec.recipe, memory_bytes()
    size = 2 if recipe.precision == "bfloat16" else 4
    needed = runs * shape.training_bytes(recipe.batch_tokens, bytes_per_activation=size)
    fitting = []
    batch = recipe.batch_tokens
    while batch > shape.context and shape.training_bytes(batch, bytes_per_activation=size) > 0.8 * limit:
        batch //= 2
    if shape.training_bytes(batch, bytes_per_activation=size) <= 0.8 * limit:
        smaller = batch if batch < recipe.batch_tokens else recipe.batch_tokens // 2
        fitting.append(f"batch_tokens = {smaller:,}")
    if not getattr(recipe, "remat", False):
        fitting.append("remat = true")
    if recipe.precision != "bfloat16":
        fitting.append('precision = "bfloat16"')
    fitting.append("more devices")
    return OutOfMemory(
        f"out of memory: N = {shape.N:,} with batches of {recipe.batch_tokens:,} tokens needs about {needed / 1e9:.3g} GB by "
        f"estimate, the device has {limit / 1e9:.3g} GB. What may fit: {', or '.join(fitting)}."
    )


def _watts() -> tuple[float, str]:
    """Power of the devices in training, and where the number is from."""
    chip = _accelerator()
    if chip is None or chip.watts is None:
        return (
            WATTS_PER_CORE * cores(),
            f"{cores()} core(s) at {WATTS_PER_CORE} W, Xeon 8480+ design power over its cores",
        )
    share = chip.power_share or POWER_SHARE
    return chip.watts * share * jax.local_device_count(), f"{chip.name}, {share:.0%} of its limit, accelerators.csv"


@cache
def _accelerator() -> Accelerator | None:
    """The row of the device in accelerators.csv; None for a processor or a chip that is not listed."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return None
    with suppress(ValueError):
        return Accelerator.named(device.device_kind)
    return None


@cache
def _nvml() -> Any:
    """NVML, where nvidia-ml-py is installed and the run is on NVIDIA's devices."""
    if jax.default_backend() not in ("gpu", "cuda") or not importlib.util.find_spec("pynvml"):
        return None
    import pynvml  # pyright: ignore[reportMissingImports]

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        return pynvml
    return None


def _nvml_joules() -> float | None:
    """Energy of this process' devices since their driver was loaded."""
    nvml = _nvml()
    if nvml is None:
        return None
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in shown.split(",") if name]
    joules = 0.0
    try:
        for device in jax.local_devices():
            name = names[device.local_hardware_id] if names else str(device.local_hardware_id)
            by = nvml.nvmlDeviceGetHandleByIndex if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID
            joules += nvml.nvmlDeviceGetTotalEnergyConsumption(by(int(name) if name.isdigit() else name)) / 1e3
    except (nvml.NVMLError, IndexError):
        return None
    return joules


def _rapl_joules() -> float | None:
    """Energy of the processor's packages so far, by the share of its cores that this process may use; None off CPU."""
    if jax.default_backend() != "cpu":
        return None
    try:
        packages = [path for path in RAPL.glob("*-rapl:*") if path.name.count(":") == 1]
        joules = sum(int((path / "energy_uj").read_text()) for path in packages) / 1e6
    except (OSError, ValueError):  # it is readable by root alone on many machines
        return None
    return joules * cores() / (os.cpu_count() or 1) if packages else None
