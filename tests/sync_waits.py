"""Waiting for a sync that comes by itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synadb import SynaDB


def is_synced(db: SynaDB) -> bool:
    """Whether all that is visible is known to be on the medium."""
    stats = db.stats(usage=False)
    return stats["synced_bytes"] >= stats["log_bytes"]


def become_synced(db: SynaDB) -> bool:
    """Whether it is within a minute."""
    end = time.monotonic() + 60
    while not is_synced(db):
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True
