"""How much memory this process may still take: of the machine, and of its control groups (Linux)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MACHINE = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Return the bytes that are left in whatever is the tightest."""
    amounts = list(_left_in_groups())
    with contextlib.suppress(OSError, StopIteration), MACHINE.open(encoding="ascii") as lines:
        amounts.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    return min(amounts) if amounts else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _left_in_groups() -> Iterator[int]:
    """Yield what each limited group has left: the process's own and those above it, of version 2 and of version 1.

    A container may not see the folder of its group, but that of the group at its top.
    """
    with contextlib.suppress(OSError):
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, place = line.split(":", 2)
            if not controllers:
                mount, limit, usage = GROUPS, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                mount, limit, usage = GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            else:
                continue
            own = PurePosixPath(place)
            for group in (own, *own.parents):
                folder = mount / str(group).lstrip("/")
                with contextlib.suppress(OSError, ValueError):  # not there, or of no limit
                    yield int((folder / limit).read_text()) - int((folder / usage).read_text())
