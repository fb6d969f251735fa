"""Ctrl-C in long calls of a store with an index: each ends, and leaves the index as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from synadb import VectorStore

if TYPE_CHECKING:
    from pathlib import Path

HUNG_S = 90
"""Each call would take minutes, or ten seconds at least, if nobody ended it."""

CHILD = """
import sys
import numpy as np
import synadb

path, call = sys.argv[1:]
random = np.random.default_rng(3)
rows = random.standard_normal((60_000, 16), dtype=np.float32)
store = synadb.VectorStore(path, 16, "euclidean", sync_on_write=False, maintenance="off")
store.insert_batch([str(n) for n in range(len(rows))], rows)
store.build_index("flat")
assert store.index_saved
if "faiss" in call:
    import faiss
    near = store.to_faiss("Flat")

def state():
    found = store.search_batch(rows[:50], 10)
    return store.index_stats(), len(store), [[(h.key, h.score) for h in hits] for hits in found]

def said(*_):
    if not told:
        print("in the call", flush=True)
        told.append(True)

def build(**how):
    # Six thousand links a vector: nobody waits for that.
    store.build_index("hnsw", m=2_000, m_max=4_000, ef_construction=20_000, **how)

calls = {
    "build": lambda: (said(), build()),
    "build on one thread": lambda: (said(), build(threads=1)),
    "build with progress": lambda: build(progress=said),
    "build of wells": lambda: (
        said(), store.build_index("gravity_well", cells=60_000, threads=1)
    ),
    "build of a cascade": lambda: (
        said(), store.build_index("cascade", num_tables=64, graph_neighbors=128, threads=1)
    ),
    "search": lambda: (said(), store.search_batch(queries, 10, exact=True)),
    "search for arrays": lambda: (said(), store.search_batch(queries, exact=True, as_arrays=True)),
    "search an index": lambda: (said(), store.search_batch(queries, 5_000, threads=1)),
    "to_faiss": lambda: (said(), store.to_faiss("HNSW500")),
    "to_faiss trains": lambda: (said(), store.to_faiss("IVF16384,Flat")),
    "faiss rebuilds": lambda: (said(), setattr(near, "factory", "HNSW500"), near.rebuild()),
}
told, before = [], state()
queries = np.resize(rows, (1_000_000, 16)) if call.startswith("search") else None
try:
    calls[call]()
except KeyboardInterrupt as error:
    assert not hasattr(error, "__notes__"), error.__notes__
else:
    raise SystemExit("it came to its end")
queries = None
assert state() == before
if "faiss" in call:
    near.factory = "Flat"
    assert near.search(rows[7], 1)[0].key == "7"
store.insert("new", rows[8] + np.float32(0.001))
assert {hit.key for hit in store.search(rows[8], 2)} == {"8", "new"}
store.build_index("gravity_well")
assert store.index_saved
assert store.index_stats()["rows"] == len(rows) + 1
assert store.verify()["ok"]
store.close()
print("as before", flush=True)
"""


@pytest.mark.timeout(2 * HUNG_S)
@pytest.mark.parametrize(
    "call",
    [
        "build",
        "build on one thread",
        "build with progress",
        "build of wells",
        "build of a cascade",
        "search",
        "search for arrays",
        "search an index",
        "to_faiss",
        "to_faiss trains",
        "faiss rebuilds",
    ],
)
def test_interrupted_call_ends_and_leaves_the_index_as_it_was(path: Path, call: str) -> None:
    if "faiss" in call:
        pytest.importorskip("faiss", reason="run `make setup`: requirements/core.txt has faiss-cpu")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path), call],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in the call\n"
        child.send_signal(signal.SIGINT)
        try:
            output, errors = child.communicate(timeout=HUNG_S)
        finally:
            child.kill()
    assert (child.returncode, output, errors) == (0, "as before\n", "")
    with VectorStore(path) as store:
        assert store.resolved_backend == "gravity_well"
        assert len(store) == 60_001


@pytest.mark.parametrize("kind", ["cascade", "flat", "gravity_well", "hnsw"])
def test_build_that_is_interrupted_at_its_last_step_leaves_the_index_as_it_was(
    path: Path, kind: str
) -> None:
    """With codes a build takes milliseconds: no signal from outside is sure to meet it before."""
    other = "gravity_well" if kind == "flat" else "flat"
    rows = np.random.default_rng(3).standard_normal((3_000, 16), dtype=np.float32)
    told: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        told.append((done, total))
        if done == total:
            signal.raise_signal(signal.SIGINT)

    def answers(store: VectorStore) -> list[list[tuple[str, float]]]:
        found = store.search_batch(rows[:50], 10)
        return [[(hit.key, hit.score) for hit in hits] for hits in found]

    with VectorStore(path, 16, "euclidean", sync_on_write=False) as store:
        store.insert_batch([str(n) for n in range(len(rows))], rows)
        store.build_index(other)
        before = store.index_stats(), answers(store)
        with pytest.raises(KeyboardInterrupt) as caught:
            store.build_index(kind, progress=interrupt)
        assert not hasattr(caught.value, "__notes__")
        assert told[-1] == (1_000, 1_000)
        assert (store.index_stats(), answers(store)) == before
        with VectorStore(path, access="read_only") as reader:
            assert (reader.index_stats(), answers(reader)) == before
        store.insert("new", rows[8] + np.float32(0.001))
        store.build_index(kind)
        assert store.resolved_backend == kind
        assert {hit.key for hit in store.search(rows[8], 2)} == {"8", "new"}
