"""One store with an index: several processes, or threads, change, search and build at once."""

from __future__ import annotations

import multiprocessing
import queue
import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import VectorStore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 40
"""So many that rows behind an index are coded."""
WORKERS = 4
TURNS = 60
BATCH = 40
WAIT_S = 90.0
KINDS = ("flat", "gravity_well", "hnsw", "cascade")
THOROUGH = {"ef_search": 4_000, "nprobe": 1_000, "candidates": 4_000, "num_probes": 200}
"""Parameters with which a search finds what the scan does."""

Model = dict[str, "NDArray[np.float32]"]


def vectors(worker: int, turn: int, count: int) -> NDArray[np.float32]:
    """Vectors around a few points, as many are alike."""
    dice = np.random.default_rng([worker, turn])
    corners = np.random.default_rng(0).standard_normal((12, WIDTH), dtype=np.float32)
    spread = dice.standard_normal((count, WIDTH), dtype=np.float32) * np.float32(0.3)
    return corners[dice.integers(0, 12, count)] + spread


def changes_of(worker: int, turn: int) -> tuple[list[str], NDArray[np.float32], list[str]]:
    """The keys that a worker writes in a turn, their vectors, and the keys that it deletes."""
    dice = random.Random(1000 * worker + turn)
    new = [f"{worker}/{turn * BATCH + n}" for n in range(BATCH)]
    old = [f"{worker}/{n}" for n in range(turn * BATCH)]
    replaced = dice.sample(old, min(len(old), BATCH // 4))
    rest = [key for key in old if key not in replaced]
    deleted = dice.sample(rest, min(len(rest), BATCH // 3))
    written = new + replaced
    return written, vectors(worker, turn, len(written)), deleted


def after(worker: int, turns: int) -> Model:
    """What is there of a worker after so many turns."""
    model: Model = {}
    for turn in range(turns):
        written, rows, deleted = changes_of(worker, turn)
        model.update(zip(written, rows, strict=True))
        for key in deleted:
            model.pop(key, None)
    return model


def do_turn(store: VectorStore, worker: int, turn: int, model: Model) -> None:
    """Some inserts one by one, some at once, and deletes."""
    written, rows, deleted = changes_of(worker, turn)
    for key, row in zip(written[:5], rows[:5], strict=True):
        store.insert(key, row)
    store.insert_batch(written[5:], rows[5:])
    model.update(zip(written, rows, strict=True))
    for key in deleted:
        assert store.delete(key) == (model.pop(key, None) is not None)


def check(store: VectorStore, model: Model) -> None:
    """The store has exactly that, and its index finds what numpy finds."""
    assert store.keys() == sorted(model)
    keys = sorted(model)
    matrix = np.array([model[key] for key in keys])
    assert store.get_batch(keys).tobytes() == matrix.tobytes()
    queries = matrix[:: max(1, len(matrix) // 25)] + np.float32(0.05)
    distances = np.linalg.norm(matrix[None].astype(np.float64) - queries[:, None], axis=2)
    for exact, how in ((1.0, {"exact": True}), (0.95, THOROUGH)):
        hits = 0
        for row, found in zip(distances, store.search_batch(queries, 10, **how), strict=True):
            assert {hit.key for hit in found} <= model.keys()
            farthest = np.sort(row)[9] * (1 + 1e-5)
            hits += sum(row[keys.index(hit.key)] <= farthest for hit in found)
        assert hits >= exact * 10 * len(queries), how


def work(store: VectorStore, worker: int, barrier: Any, failures: Any) -> None:
    """Changes, searches, builds; at the end all agree."""
    try:
        dice, model = random.Random(worker), Model()
        barrier.wait(WAIT_S)
        for turn in range(TURNS):
            do_turn(store, worker, turn, model)
            for key in dice.sample(sorted(model), 4):
                # Of others there is this or that; its own rows a worker always finds.
                found = store.search(model[key], 1, **THOROUGH)[0]
                assert found.vector.tobytes() == model[key].tobytes(), key
            if turn % 12 == 3 * worker:
                store.build_index(KINDS[(worker + turn // 12) % 4], threads=1)
        barrier.wait(WAIT_S)
        everything = {k: v for other in range(WORKERS) for k, v in after(other, TURNS).items()}
        check(store, everything)
        barrier.wait(WAIT_S)
    except BaseException as error:
        failures.put(f"worker {worker}: {type(error).__name__}: {error}")
        barrier.abort()


@pytest.mark.timeout(3 * WAIT_S)
@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_all_agree_after_changes_searches_and_builds_at_once(path: Path, kind: str) -> None:
    options: dict[str, Any] = {"sync_on_write": False, "index_threshold": 600, "lock_timeout": 60.0}
    with VectorStore(path, WIDTH, metric="euclidean", **options) as store:
        if kind == "threads":
            barrier, failures = threading.Barrier(WORKERS), queue.Queue[str]()
            workers: list[Any] = [
                threading.Thread(target=work, args=(store, worker, barrier, failures))
                for worker in range(WORKERS)
            ]
        else:
            context = multiprocessing.get_context("spawn")
            barrier, failures = context.Barrier(WORKERS), context.Queue()
            workers = [
                context.Process(target=work, args=(store, worker, barrier, failures))
                for worker in range(WORKERS)
            ]
        for one in workers:
            one.start()
        for one in workers:
            one.join(2 * WAIT_S)
        assert not any(one.is_alive() for one in workers)
        assert failures.empty(), failures.get()
        everything = {k: v for worker in range(WORKERS) for k, v in after(worker, TURNS).items()}
        check(store, everything)
        store.build_index("hnsw")
        check(store, everything)
        assert store.verify()["ok"]
    with VectorStore(path, access="exclusive") as again:
        assert again.resolved_backend == "hnsw"
        check(again, everything)
