"""What a run cost: its device, memory, arithmetic against the peak, and energy, each with how it is known."""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from scaling.grid import RunSpec
from scaling.hardware import Accelerator
from scaling.shape import MEMORY_SHARE
from scaling.training.train.errors import OutOfMemory

#: Power of a processor core under load, watts: Intel Xeon Platinum 8480+, 350 W of design power over 56 cores (ark.intel.com,
#: as of 2023-01). Only where the machine tells no energy.
WATTS_PER_CORE = 6.25

#: Average power in training over the board's limit, where a chip's own share is not known: that of an H100 (accelerators.csv).
POWER_SHARE = 0.75

#: Where Linux tells the energy of a processor's package.
RAPL = Path("/sys/class/powercap")

#: Where Linux tells the most memory of this process, and lets that begin anew.
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


#: Reads counters of energy, each in joules and where it begins again at nought (None: it does not); None where they tell nothing.
Counters = Callable[[], "list[tuple[float, float | None]] | None"]


class Meter:
    """Energy from its beginning on: joules where the machine tells them, else power by time.

    A processor's counter begins again every few minutes to hours: `sample` is to be called more often than that.
    """

    def __init__(self) -> None:
        kinds: tuple[tuple[Counters, str], ...] = (
            (_nvml_counters, "measured: NVML"),
            (_rapl_counters, "measured: RAPL, by share of the cores"),
        )
        told = ((read, how, now) for read, how in kinds if (now := read()))
        self.read, self.how, self.last = next(told, (lambda: None, "", []))
        self.joules: float | None = 0.0 if self.last else None

    def sample(self) -> float | None:
        """Joules since the beginning; None where no counter tells them, or one was lost on the way."""
        now = self.read()
        if self.joules is None or not now:
            self.joules = None
            return None
        for (was, _), (value, most) in zip(self.last, now):
            if value < was and most is None:
                self.joules = None
                return None
            self.joules += value - was + (most or 0.0) * (value < was)
        self.last = now
        return self.joules

    def resume(self, joules: float | None) -> None:
        """Count on from what an earlier process of the same run had measured; None where it had measured nothing."""
        self.joules = None if self.joules is None else joules

    def kwh(self, seconds: float, devices: int) -> tuple[float | None, str]:
        """Kilowatt hours since the beginning and how they are known; None where neither energy nor power is known.

        `seconds` and the `devices` of the run are what an estimate is made with, where no counter tells the whole of it.
        """
        joules = self.sample()
        if joules is not None:
            return joules / 3.6e6, self.how
        watts, source = _watts(devices)
        if watts is None:
            return None, f"not known: {source}"
        return watts * seconds / 3.6e6, f"estimated: {watts:.4g} W ({source}) x time"


class PeakMemory:
    """The most memory in use from its beginning on.

    Linux lets a process' peak begin anew; a device's peak only grows, so one that did not grow was not of these runs.
    """

    def __init__(self) -> None:
        self.before = 0 if _cleared() else _peak_bytes()

    def bytes(self) -> int | None:
        """The peak in bytes: of this process' devices where they tell, else of the process; None where an earlier was higher."""
        now = _peak_bytes()
        return now if now > self.before else None


def machine(devices: int) -> dict[str, Any]:
    """The device, times the `devices` that a run was laid out over, and the versions that a record names."""
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        kind = f"cpu: {platform.processor() or platform.machine()}, {cores()} core(s)"
    elif devices > 1:
        kind = f"{kind} x {devices}"
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


def _peak_bytes() -> int:
    """The most memory used so far: of the devices where they tell, else of the process."""
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return _device_peak() or _resident_peak() or process


def _cleared() -> bool:
    """Let the process' peak begin anew, where that is what counts and Linux lets it."""
    if _device_peak() or not _resident_peak():
        return False
    try:
        CLEAR_PEAK.write_text("5")
    except OSError:
        return False
    return True


def _device_peak() -> int:
    """The most memory used so far, summed over this process' devices; 0 where one does not tell."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return sum(each["peak_bytes_in_use"] for each in stats) if all("peak_bytes_in_use" in each for each in stats) else 0


def _resident_peak() -> int:
    """The most memory this process had since its peak was cleared, as Linux tells it; 0 elsewhere."""
    with suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return 0


def memory_bytes() -> float:
    """Memory of one device that a run may take: what the device says, else the machine's."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return float(limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory was not enough."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def out_of_memory(spec: RunSpec, runs: int = 1, devices: int = 1) -> OutOfMemory:
    """The error that says what such a run needs, what there is, and what would fit, by `Shape.training_bytes`."""
    shape, recipe, limit = spec.shape, spec.recipe, memory_bytes()

    def needs(**changes: Any) -> float:
        return replace(spec, recipe=replace(recipe, **changes)).training_bytes / devices

    def fits(**changes: Any) -> bool:
        return needs(**changes) <= MEMORY_SHARE * limit

    windows = recipe.batch_tokens // shape.context
    halves = [windows >> by for by in range(1, windows.bit_length())]
    batch = next((count * shape.context for count in halves if fits(batch_tokens=count * shape.context)), None)
    ways = [f"batch_tokens = {batch:,}"] if batch else []
    ways += ["remat = true"] if not recipe.remat and fits(remat=True) else []
    ways += ['precision = "bfloat16"'] if recipe.precision != "bfloat16" and fits(precision="bfloat16") else []
    if runs > 1:
        ways = [f"{runs // 2} runs at once instead of {runs}"]
    ways.append(f"{max(devices + 1, math.ceil(devices * needs() / (MEMORY_SHARE * limit)))} devices")
    return OutOfMemory(
        f"out of memory: N = {shape.N:,} with batches of {recipe.batch_tokens:,} tokens needs about "
        f"{runs * needs() / 1e9:.3g} GB a device by estimate, which has {limit / 1e9:.3g} GB. What may fit: {', or '.join(ways)}."
    )


def _watts(devices: int) -> tuple[float | None, str]:
    """Power in training of those of a run's devices that are this process', and where the number is from; None where that of the
    chip is not known."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        source = f"{cores()} core(s) at {WATTS_PER_CORE} W, Xeon 8480+ design power over its cores"
        return WATTS_PER_CORE * cores(), source
    chip = _accelerator()
    if chip is None or chip.watts is None:
        return None, f"no energy counter, and accelerators.csv has no power of {device.device_kind}"
    share = chip.power_share or POWER_SHARE
    here = min(devices, jax.local_device_count())
    return chip.watts * share * here, f"{chip.name}, {share:.0%} of its limit, accelerators.csv"


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


def _nvml_counters() -> list[tuple[float, float | None]] | None:
    """Energy of each of this process' devices since its driver was loaded; see `Counters`."""
    nvml = _nvml()
    if nvml is None:
        return None
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in shown.split(",") if name]
    found = []
    try:
        for device in jax.local_devices():
            name = names[device.local_hardware_id] if names else str(device.local_hardware_id)
            by = nvml.nvmlDeviceGetHandleByIndex if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID
            handle = by(int(name) if name.isdigit() else name)
            found.append((nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, None))
    except (nvml.NVMLError, IndexError):
        return None
    return found


def _rapl_counters() -> list[tuple[float, float | None]] | None:
    """Energy of the processor's packages, by the share of its cores that this process may use; None off CPU; see `Counters`."""
    if jax.default_backend() != "cpu":
        return None
    share = cores() / (os.cpu_count() or 1) / 1e6
    try:
        packages = sorted(path for path in RAPL.glob("*-rapl:*") if path.name.count(":") == 1)
        names = ("energy_uj", "max_energy_range_uj")
        values = [[int((path / name).read_text()) * share for name in names] for path in packages]
    except (OSError, ValueError):  # it is readable by root alone on many machines
        return None
    return [(value, most) for value, most in values] or None
