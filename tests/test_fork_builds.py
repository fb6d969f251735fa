"""Forks in the midst of a build of an index: by its progress function, and beside its thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_fork import succeed_as_a_tree

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import os, sys, threading
import numpy as np, synadb
rows = np.random.default_rng(1).normal(size=(20_000, 32)).astype(np.float32)
store = synadb.VectorStore(sys.argv[1], 32, sync_on_write=False)
store.insert_batch([str(number) for number in range(len(rows))], rows)
parent, children = os.getpid(), []
"""
FROM_PROGRESS = """
def fork(done, total):
    if os.getpid() == parent and len(children) < 3:
        child = os.fork()
        if child:
            children.append(child)
try:
    store.build_index(sys.argv[2], progress=fork)
except synadb.UnsupportedError as error:
    assert str(parent) in str(error) and "forked" in str(error), error
    assert store.search(rows[5], k=1)[0].key == "5" and not store.has_index
    os._exit(os.getpid() == parent)
assert os.getpid() == parent and children
"""
BESIDE_THREAD = """
begun, go = threading.Event(), threading.Event()
def report(done, total):
    begun.set()
    assert go.wait(40)
def build():
    store.build_index(sys.argv[2], progress=report)
thread = threading.Thread(target=build)
thread.start()
assert begun.wait(40)
for number in range(3):
    child = os.fork()
    if child == 0:
        try:
            far = rows[number] + 100
            assert store.search(rows[5], k=1)[0].key == "5" and not store.has_index
            store.insert(f"of {number}", far)
            assert store.search(far, k=1)[0].key == f"of {number}"
            if number == 2:
                store.build_index("flat")
                assert store.has_index and store.search(far, k=1)[0].key == "of 2"
        except BaseException as error:
            print(number, type(error).__name__, error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
"""
END = """
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert not any(codes), codes
"""
AFTER_THREAD = """
go.set()
thread.join()
for number in range(3):
    assert store.search(rows[number] + 100, k=1)[0].key == f"of {number}"
"""
KEPT = """
assert store.index_stats()["kind"] == sys.argv[2] and store.index_saved
store.close()
with synadb.VectorStore(sys.argv[1]) as store:
    assert store.index_stats()["kind"] == sys.argv[2]
    assert store.search(rows[7], k=1)[0].key == "7"
"""

KINDS = ["flat", "gravity_well", "hnsw", "cascade"]


@pytest.mark.parametrize("kind", KINDS)
def test_child_that_a_build_forks_is_told_to_leave_it_to_its_parent(path: Path, kind: str) -> None:
    program = BEGIN + FROM_PROGRESS + END + KEPT
    succeed_as_a_tree(program, str(path), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_children_beside_a_build_search_write_and_build(path: Path, kind: str) -> None:
    program = BEGIN + BESIDE_THREAD + END + AFTER_THREAD + KEPT
    succeed_as_a_tree(program, str(path), kind)
