"""What a run cost: energy by a counter that a test stands in for, and by power and time where there is none."""

import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from scaling.training.train import cost


class NVML:
    """NVIDIA's library, as far as it is asked: energy in millijoules by device, and which were asked for."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, millijoules):
        self.millijoules = millijoules

    def nvmlInit(self):
        self.begun = True

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, name):
        return name

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if handle not in self.millijoules:
            raise self.NVMLError(f"no device {handle}")
        return self.millijoules[handle]


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs with NVML, as this process sees them."""
    library = NVML({0: 5_000_000, 1: 7_000_000, "GPU-b": 7_000_000})
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(cost.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    devices = [SimpleNamespace(local_hardware_id=i, platform="gpu", device_kind="NVIDIA H200") for i in range(2)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for found in (cost._nvml, cost._accelerator):
        found.cache_clear()
    yield library
    for found in (cost._nvml, cost._accelerator):
        found.cache_clear()


def test_nvml_counts_the_devices_of_this_process(gpus):
    meter = cost.Meter()
    gpus.millijoules.update({0: 5_000_000 + 3_600_000, 1: 7_000_000 + 1_800_000})
    assert meter.kwh(10.0, 1) == (pytest.approx(5400 / 3.6e6), "measured: NVML")


@pytest.mark.parametrize("shown", ["1", "GPU-b"])
def test_nvml_is_asked_by_the_name_that_the_process_was_given(gpus, monkeypatch, shown):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    (one, _) = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: [one])
    meter = cost.Meter()
    gpus.millijoules.update({0: 99_000_000, 1: 7_360_000, "GPU-b": 7_360_000})
    assert meter.kwh(10.0, 1) == (pytest.approx(1e-4), "measured: NVML")


def test_a_counter_that_is_gone_or_began_again_is_an_estimate_that_says_so(gpus):
    meter = cost.Meter()
    for change in (lambda: gpus.millijoules.update({0: 0, 1: 0}), lambda: gpus.millijoules.clear()):
        change()
        kwh, how = meter.kwh(3600.0, 2)
        assert meter.kwh(3600.0, 1)[0] == pytest.approx(kwh / 2)  # a batch that one device trained alone
        watts = float(how.removeprefix("estimated: ").split(" W")[0])
        assert kwh == pytest.approx(watts / 1000, rel=1e-3)
        assert watts == pytest.approx(2 * 0.75 * 700, rel=0.3)  # two H200 at their share of 700 W
        assert "h200" in how


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Linux' counters of two packages, one with a part of its own that is in its package's number already."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("1000000\n")
        (tmp_path / name / "max_energy_range_uj").write_text("5000000000\n")
    monkeypatch.setattr(cost, "RAPL", tmp_path)
    monkeypatch.setattr(cost, "cores", lambda: 2)
    monkeypatch.setattr(cost.os, "cpu_count", lambda: 8)
    return tmp_path


def test_rapl_counts_the_packages_by_the_share_of_the_cores(powercap):
    meter = cost.Meter()
    for name, joules in (("intel-rapl:0", 3601), ("intel-rapl:1", 3601), ("intel-rapl:0:0", 3000)):
        (powercap / name / "energy_uj").write_text(f"{joules}000000")
    kwh, how = meter.kwh(10.0, 1)
    assert kwh == pytest.approx(2 * 3600 / 4 / 3.6e6)
    assert how == "measured: RAPL, by share of the cores"


def test_rapl_counters_begin_again_at_nought_and_lose_nothing(powercap):
    """Packages of 5 kJ range: 3 kJ used and then 3 more is 6, though the counter reads 1 kJ."""
    meter = cost.Meter()
    for joules in (3001, 1001):
        for name in ("intel-rapl:0", "intel-rapl:1"):
            (powercap / name / "energy_uj").write_text(f"{joules}000000")
        meter.sample()
    assert meter.kwh(10.0, 1)[0] == pytest.approx(2 * 6000 / 4 / 3.6e6)


def test_a_run_that_goes_on_keeps_what_was_measured_before(powercap):
    first = cost.Meter()
    (powercap / "intel-rapl:0" / "energy_uj").write_text("3601000000")
    second = cost.Meter()
    second.resume(first.sample())
    (powercap / "intel-rapl:0" / "energy_uj").write_text("4001000000")
    assert second.kwh(10.0, 1) == (pytest.approx(4000 / 4 / 3.6e6), first.how)
    second.resume(None)  # an earlier process had no counter: the whole is an estimate
    assert second.kwh(10.0, 1)[1].startswith("estimated")


def test_a_chip_whose_power_nobody_knows_has_no_energy_and_says_so(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(platform="gpu", device_kind="Strange 9000")])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    cost._accelerator.cache_clear()
    kwh, how = cost.Meter().kwh(3600.0, 1)
    cost._accelerator.cache_clear()
    assert kwh is None
    assert "no power of Strange 9000" in how


def test_peak_memory_is_that_of_the_run_and_not_of_one_before():
    large = np.ones(100_000_000, np.uint8)
    del large
    peak = cost.PeakMemory()
    small = np.ones(30_000_000, np.uint8)
    found = peak.bytes()
    now = int(cost.STATUS.read_text().split("VmRSS:")[1].split()[0]) * 1024
    assert found is None or now <= found < now + 60_000_000
    assert len(small) == 30_000_000


def test_a_device_whose_peak_did_not_grow_tells_nothing_of_this_run(monkeypatch):
    stats = {"peak_bytes_in_use": 1000}
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(memory_stats=lambda: stats)])
    peak = cost.PeakMemory()
    assert peak.bytes() is None
    stats["peak_bytes_in_use"] = 3000
    assert peak.bytes() == 3000


def test_rapl_that_root_alone_may_read_is_an_estimate(powercap):
    (powercap / "intel-rapl:1" / "energy_uj").unlink()
    kwh, how = cost.Meter().kwh(3600.0, 1)
    assert kwh == pytest.approx(2 * cost.WATTS_PER_CORE / 1000)
    assert how.startswith("estimated: 12.5 W")
