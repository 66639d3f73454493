# SPDX-License-Identifier: Apache-2.0
"""What a run ran on and under: CPU, clock, temperature, throttling, and who else wanted the CPUs.

Linux tells through files; elsewhere those facts are absent. What works everywhere is a short loop
of dependent instructions, timed again and again: its speed follows the clock.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qkernels import _core
from qkernels import machine as kernels
from qkernels.hardware import cpu_model, data_caches, read_text

ROOT = Path("/")
_PROBE_SECONDS = 2e-3
_DRIFT = 0.07  # of the clock, or of the loop's speed, is worth a warning
_HOT = 90.0  # degrees Celsius
_STOLEN = 0.01  # of the CPU time
_BUSY = 0.3  # of the CPUs, before the run

# Raspberry Pi firmware: bits that hold now, and 16 higher those that held since the boot.
_FIRMWARE = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}


def machine(root: Path = ROOT) -> dict[str, Any]:
    """The document's "machine": CPU, system, tiers and bytes of the first CPU's data caches."""
    return {
        "cpu": cpu_model(root),
        "arch": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpus": _core.cpu_count(),
        "isas": kernels.available_isas(),
        "caches": {name: cache["bytes"] for name, cache in data_caches(root).items()},
    }


@dataclass(frozen=True)
class Counters:
    """Counts since the boot; None where the system has none."""

    quota_stops: int | None
    thermal_stops: int | None
    firmware: int | None
    stolen: int | None
    ticks: int | None


@dataclass
class Monitor:
    """Watches a run: a context manager, and `sample` between pieces of work, when nothing else of
    the run is running. `report` tells what was seen.

    root: where the system's files are.
    """

    root: Path = ROOT
    _clocks: list[float] = field(default_factory=list)
    _temperatures: list[float] = field(default_factory=list)
    _speeds: list[float] = field(default_factory=list)
    _firmware: int = 0

    def __enter__(self) -> Monitor:
        self._load = load_average()
        self._first = read_counters(self.root)
        self.sample()
        return self

    def __exit__(self, *_: object) -> None:
        self.sample()

    def sample(self) -> None:
        """Clock, temperature and the speed of the loop now. Takes some milliseconds."""
        with kernels.num_threads(1):
            self._speeds.append(_core.probe("chain", _PROBE_SECONDS))
        # The clock right after the loop, which woke the CPU up.
        for values, value in (
            (self._clocks, clock_mhz(self.root)),
            (self._temperatures, temperature_c(self.root)),
        ):
            if value is not None:
                values.append(value)
        self._firmware |= (read_firmware(self.root) or 0) & 0xF

    def report(self) -> dict[str, Any]:
        """What was seen so far:

        - "clock_mhz": {"start", "end", "min"} of the fastest CPU, or None;
        - "temperature_c": {"start", "end", "max"} of the hottest sensor, or None;
        - "throttled": whether heat, voltage or a quota stopped the CPU, None where nobody tells;
        - "speed": {"start", "end", "min"} of the loop, 1 being its fastest;
        - "load": {"average": of a minute before the run or None, "cpus": to be had here,
          "system_cpus": of the machine};
        - "warnings": a sentence each.
        """
        now = read_counters(self.root)
        speeds = [speed / max(self._speeds) for speed in self._speeds]
        stops = {
            f"the quota of the control group stopped the run {{}} time{_PLURAL}": _gained(
                self._first.quota_stops, now.quota_stops
            ),
            f"the CPU throttled because of heat {{}} time{_PLURAL}": _gained(
                self._first.thermal_stops, now.thermal_stops
            ),
        }
        firmware = self._firmware | (_new_bits(self._first.firmware, now.firmware) >> 16 & 0xF)
        told = [count for count in stops.values() if count is not None]
        throttled = None
        if told or now.firmware is not None:
            throttled = any(told) or firmware != 0
        warnings = [
            text.replace(_PLURAL, "s"[: count != 1]).format(count)
            for text, count in stops.items()
            if count
        ]
        warnings += [
            f"the firmware reports: {_FIRMWARE[bit]}" for bit in _FIRMWARE if firmware >> bit & 1
        ]
        return {
            "clock_mhz": _summary(self._clocks, "min"),
            "temperature_c": _summary(self._temperatures, "max"),
            "throttled": throttled,
            "speed": _summary(speeds, "min"),
            "load": {
                "average": self._load,
                "cpus": _core.cpu_count(),
                "system_cpus": os.cpu_count() or 1,
            },
            "warnings": [*warnings, *self._drifts(speeds), *self._others(now)],
        }

    def _drifts(self, speeds: list[float]) -> list[str]:
        found = []
        clocks, hottest = self._clocks, max(self._temperatures, default=0.0)
        if clocks and min(clocks) < (1 - _DRIFT) * max(clocks):
            found.append(f"the clock went from {max(clocks):.0f} down to {min(clocks):.0f} MHz")
        if min(speeds) < 1 - _DRIFT:
            found.append(
                f"a fixed loop ran up to {100 * (1 / min(speeds) - 1):.0f} % longer than at its "
                "best: the clock changed, or other programs ran"
            )
        if hottest >= _HOT:
            found.append(f"the CPU reached {hottest:.0f} degrees Celsius")
        return found

    def _others(self, now: Counters) -> list[str]:
        found = []
        cpus = os.cpu_count() or 1
        if self._load is not None and self._load > _BUSY * cpus:
            found.append(
                f"the load average before the run was {self._load:.1f} on {cpus} CPUs: other "
                "programs were running"
            )
        stolen, ticks = (
            _gained(self._first.stolen, now.stolen),
            _gained(self._first.ticks, now.ticks),
        )
        if stolen and ticks and stolen > _STOLEN * ticks:
            found.append(f"the host took {100 * stolen / ticks:.0f} % of the CPU time for others")
        return found


_PLURAL = "(s)"


def _summary(values: list[float], extreme: str) -> dict[str, float] | None:
    if not values:
        return None
    most = min(values) if extreme == "min" else max(values)
    return {"start": values[0], "end": values[-1], extreme: most}


def _gained(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else max(after - before, 0)


def _new_bits(before: int | None, after: int | None) -> int:
    return (after or 0) & ~(before or 0)


def load_average() -> float | None:
    """Programs that wanted to run in the last minute, on average; None on Windows."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def clock_mhz(root: Path = ROOT) -> float | None:
    """The clock of the fastest CPU now, where Linux has cpufreq."""
    folders = (root / "sys/devices/system/cpu/cpufreq").glob("policy*")
    clocks = [read_text(folder / "scaling_cur_freq") for folder in folders]
    return max((int(clock) / 1000 for clock in clocks if clock.isdecimal()), default=None)


def temperature_c(root: Path = ROOT) -> float | None:
    """The hottest of the thermal zones and of the CPU's own sensors, where Linux lists them."""
    paths = [
        path
        for folder in (root / "sys/class/hwmon").glob("hwmon*")
        if read_text(folder / "name") in {"coretemp", "k10temp", "cpu_thermal"}
        for path in folder.glob("temp*_input")
    ] or list((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    values = [read_text(path) for path in paths]
    # A sensor that is off says 0 or less.
    found = [int(value) / 1000 for value in values if value.isdecimal()]
    return max((value for value in found if value > 0), default=None)


def read_firmware(root: Path = ROOT) -> int | None:
    """The throttling bits of a Raspberry Pi's firmware, None elsewhere."""
    text = read_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        return int(text, 16)
    except ValueError:
        return None


def read_counters(root: Path = ROOT) -> Counters:
    group = dict(
        line.split(maxsplit=1)
        for path in ("sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu/cpu.stat")
        for line in read_text(root / path).splitlines()
        if len(line.split()) == 2
    )
    stops = group.get("nr_throttled", "")
    thermal = [
        int(text)
        for path in (root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count")
        if (text := read_text(path)).isdecimal()
    ]
    ticks = read_text(root / "proc/stat").split("\n", 1)[0].split()[1:9]
    counts = [int(tick) for tick in ticks] if all(map(str.isdecimal, ticks)) else []
    return Counters(
        quota_stops=int(stops) if stops.isdecimal() else None,
        thermal_stops=sum(thermal) if thermal else None,
        firmware=read_firmware(root),
        stolen=counts[7] if len(counts) == 8 else None,
        ticks=sum(counts) if len(counts) == 8 else None,
    )
