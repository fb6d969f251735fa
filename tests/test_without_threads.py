"""A process that can have no more threads: large batches and searches are done by its one."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, struct, sys, threading
import numpy as np
from synadb import VectorStore

rows = np.random.default_rng(1).normal(size=(40_000, 64)).astype(np.float32)
keys = [str(number) for number in range(len(rows))]
store = VectorStore(sys.argv[1], 64, metric="euclidean", index_threshold=100, sync_on_write=False)

# From here on the kernel refuses every new thread, as where a limit is reached.
clone, clone3, again = 56, 435, 0x00050000 | 11
code = [(0x20, 0, 0, 0), (0x15, 2, 0, clone), (0x15, 1, 0, clone3),
        (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, again)]
code = b"".join(struct.pack("HBBI", *each) for each in code)
code = ctypes.create_string_buffer(code, len(code))
program = struct.pack("HxxxxxxQ", 5, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.syscall(317, 1, 0, program):
    sys.exit(77)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    pass
else:
    raise AssertionError("a thread can be had")

assert store.insert_batch(keys, rows) == len(keys)
assert store.insert_batch(keys, rows) == 0
broken = rows.copy()
broken[-1, 3] = np.nan
try:
    store.insert_batch(keys, broken)
except ValueError as error:
    assert "39999" in str(error), error
else:
    raise AssertionError("NaN is taken")
assert np.array_equal(store.get_batch(keys), rows)
for _ in range(60):
    assert store.search(rows[7], k=1)[0].key == "7"
found = store.search_batch(rows[:300], k=1, threads=4)
assert [hits[0].key for hits in found] == keys[:300]
try:
    store.build_index("hnsw")
except OSError:
    assert store.index_stats() is None
else:
    raise AssertionError("a build without a thread of its own")
store.delete("7")
assert store.search(rows[7], k=1)[0].key != "7"
store.close()
"""
NO_FILTER = 77
"""Status of the program where the kernel takes no filter of system calls."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
def test_large_batches_and_searches_need_no_second_thread(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "a.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == NO_FILTER:
        pytest.skip("the kernel takes no filter of system calls")
    assert done.returncode == 0, done.stderr
