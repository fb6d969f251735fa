"""Clocks, memory, and how busy the rest of the machine was."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def pin(cpus: Iterable[int]) -> None:
    """Keep this process and the threads that it will start on these CPUs."""
    os.sched_setaffinity(0, cpus)


def idlest() -> int:
    """The CPU that did least in the last fifth of a second."""

    def idle() -> dict[int, int]:
        lines = Path("/proc/stat").read_text().splitlines()
        named = [line.split() for line in lines if line[:3] == "cpu" and line[3].isdigit()]
        return {int(fields[0][3:]): int(fields[4]) for fields in named}

    before = idle()
    time.sleep(0.2)
    after = idle()
    allowed = [cpu for cpu in sorted(os.sched_getaffinity(0)) if cpu in before and cpu in after]
    return max(allowed, key=lambda cpu: after[cpu] - before[cpu])


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one call: by the clock, and of this process's threads on any CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - cpu


def resident() -> int:
    """Resident bytes of this process, after unused pages went back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def resident_of(file: Path) -> int:
    """Resident bytes of this process that are a file's mapped pages."""
    total, inside = 0, False
    wanted = str(file.resolve())
    for line in Path("/proc/self/smaps").read_text().splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            inside = len(fields) > 5 and line.endswith(wanted)
        elif inside and fields[0] == "Rss:":
            total += int(fields[1]) * 1024
    return total


class Others:
    """How many CPUs other processes kept busy since it was made."""

    def __init__(self) -> None:
        self.start = (time.perf_counter(), self.busy(), sum(os.times()[:4]))

    @staticmethod
    def busy() -> float:
        """CPU seconds of all processes since the machine started."""
        ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")

    def cpus(self, own_s: float) -> float:
        """The number; `own_s` is what children that still run have used since."""
        wall, busy, own = self.start
        used = self.busy() - busy - (sum(os.times()[:4]) - own) - own_s
        return round(max(0.0, used) / max(time.perf_counter() - wall, 1e-3), 2)


def cpu_seconds(pid: int) -> float:
    """What a process has used of the CPUs; nothing of one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
