"""A process that can have no second thread of the engine's: everything is done by the first one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
from synadb import GravityWellIndex, VectorStore

rows = np.random.default_rng(1).normal(size=(40_000, 64)).astype(np.float32)
keys = [str(number) for number in range(len(rows))]
with VectorStore(sys.argv[1], 64, metric="euclidean", index_threshold=100) as store:
    assert store.insert_batch(keys, rows) == len(keys)
    assert store.insert_batch(keys, rows) == 0
    try:
        store.insert_batch(keys, np.where(rows == rows[-1, -1], np.nan, rows))
    except ValueError as error:
        assert "39999" in str(error), error
    else:
        raise AssertionError("NaN is taken")
    for _ in range(60):
        assert store.search(rows[7], k=1)[0].key == "7"
    found = store.search_batch(rows[:300], k=1, threads=4)
    assert [hits[0].key for hits in found] == keys[:300]
    store.delete("7")
    assert store.search(rows[7], k=1)[0].key != "7"
    store.checkpoint()
with VectorStore(sys.argv[1]) as store:
    assert len(store) == len(keys) - 1
    assert store.verify()["ok"] if len(sys.argv) > 2 else True
"""


def test_large_batch_and_searches_need_no_second_thread(tmp_path: Path) -> None:
    # A stack that no address space has room for: the engine's threads can't be had.
    environment = dict(os.environ, RUST_MIN_STACK=str(1 << 60), OPENBLAS_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "a.db"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
