"""Random acts on a database and a vector store in one file, against plain dicts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import synadb
from synadb import SynaDB, VectorStore

WIDTH = 3
KEYS = st.sampled_from(["a", "b", "c\0", "\u00e9", "long " * 40])
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=100),
    st.binary(max_size=200),
)
COMPONENTS = st.floats(-100, 100, width=32)
VECTORS = st.lists(COMPONENTS, min_size=WIDTH, max_size=WIDTH).map(
    lambda row: np.array(row, dtype=np.float32)
)
CHANGES = st.lists(st.tuples(KEYS, st.one_of(st.just("delete"), VALUES.map(lambda v: (v,)))))


class DatabaseMachine(RuleBasedStateMachine):
    """The model: for each key its history, for each vector key its vector."""

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "a.db"
        self.model: dict[str, list[Any]] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.open()

    def open(self) -> None:
        self.db = SynaDB(self.path, sync_on_write=False)
        self.store = VectorStore(self.path, WIDTH, metric="euclidean", sync_on_write=False)

    def close(self) -> None:
        self.store.close()
        self.db.close()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.close()
            shutil.rmtree(self.folder)

    @rule(key=KEYS, value=VALUES)
    def put(self, key: str, value: Any) -> None:
        self.db.put(key, value)
        self.model.setdefault(key, []).append(value)

    @rule(key=KEYS, values=st.lists(st.floats(allow_nan=False), max_size=20))
    def append_many(self, key: str, values: list[float]) -> None:
        assert self.db.append_many(key, values) == len(values)
        if values:
            self.model.setdefault(key, []).extend(values)

    @rule(items=st.dictionaries(KEYS, VALUES))
    def put_many(self, items: dict[str, Any]) -> None:
        assert self.db.put_many(items) == len(items)
        for key, value in items.items():
            self.model.setdefault(key, []).append(value)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.db.delete(key) == (self.model.pop(key, None) is not None)

    def change(self, batch: synadb.Batch | synadb.Transaction, key: str, change: Any) -> None:
        """Add a change to a batch that will be committed, and make it in the model."""
        if change == "delete":
            batch.delete(key)
            self.model.pop(key, None)
        else:
            batch.put(key, change[0])
            self.model.setdefault(key, []).append(change[0])

    @rule(changes=CHANGES)
    def commit_a_batch(self, changes: list[tuple[str, Any]]) -> None:
        with self.db.batch() as batch:
            for key, change in changes:
                self.change(batch, key, change)

    @rule(changes=CHANGES)
    def roll_a_batch_back(self, changes: list[tuple[str, Any]]) -> None:
        batch = self.db.batch()
        for key, change in changes:
            if change == "delete":
                batch.delete(key)
            else:
                batch.put(key, change[0])
        batch.rollback()

    @rule(changes=CHANGES, vectors=st.lists(st.tuples(KEYS, st.none() | VECTORS), max_size=6))
    def commit_a_batch_of_both(
        self, changes: list[tuple[str, Any]], vectors: list[tuple[str, np.ndarray | None]]
    ) -> None:
        with self.db.batch() as batch:
            for key, change in changes:
                self.change(batch, key, change)
            for key, vector in vectors:
                if vector is None:
                    batch.remove(self.store, key)
                    self.vectors.pop(key, None)
                else:
                    batch.insert(self.store, key, vector)
                    self.vectors[key] = vector

    @rule(changes=CHANGES, read=KEYS)
    def commit_a_transaction(self, changes: list[tuple[str, Any]], read: str) -> None:
        with self.db.transaction() as transaction:
            assert (read in transaction) == (read in self.model)
            for key, change in changes:
                self.change(transaction, key, change)

    @rule(changes=CHANGES, key=KEYS)
    def refuse_a_batch_that_expects_another_version(
        self, changes: list[tuple[str, Any]], key: str
    ) -> None:
        batch = self.db.batch()
        for name, change in changes:
            if change == "delete":
                batch.delete(name)
            else:
                batch.put(name, change[0])
        batch.put(key, 1)
        batch.expect(key, self.db.sequence + 1)
        with pytest.raises(synadb.ConflictError):
            batch.commit()

    @rule(bad=st.sampled_from([2**63, object(), "a\ud800"]), items=st.dictionaries(KEYS, VALUES))
    def refuse_a_bad_value(self, bad: Any, items: dict[str, Any]) -> None:
        with pytest.raises((OverflowError, TypeError, synadb.InvalidArgumentError)):
            self.db.put_many({**items, "bad": bad})

    @rule(key=KEYS, vector=VECTORS)
    def insert_vector(self, key: str, vector: np.ndarray) -> None:
        self.store.insert(key, vector)
        self.vectors[key] = vector

    @rule(items=st.lists(st.tuples(KEYS, VECTORS), max_size=8))
    def insert_vectors(self, items: list[tuple[str, np.ndarray]]) -> None:
        rows = np.array([row for _, row in items], dtype=np.float32).reshape(-1, WIDTH)
        new = self.store.insert_batch([key for key, _ in items], rows)
        assert new == len({key for key, _ in items} - self.vectors.keys())
        self.vectors.update(items)

    @rule(key=KEYS, vector=VECTORS)
    def update_vector(self, key: str, vector: np.ndarray) -> None:
        if key in self.vectors:
            self.store.update(key, vector)
            self.vectors[key] = vector
        else:
            with pytest.raises(synadb.KeyNotFoundError):
                self.store.update(key, vector)

    @rule(key=KEYS, row=st.integers(0, WIDTH - 1), bad=st.sampled_from([np.nan, np.inf]))
    def refuse_a_bad_vector(self, key: str, row: int, bad: float) -> None:
        vector = np.zeros(WIDTH, dtype=np.float32)
        vector[row] = bad
        with pytest.raises(synadb.InvalidVectorError):
            self.store.insert_batch(["good", key], [np.ones(WIDTH), vector])

    @rule(key=KEYS)
    def delete_vector(self, key: str) -> None:
        assert self.store.delete(key) == (self.vectors.pop(key, None) is not None)

    @rule(query=VECTORS, k=st.integers(0, 8))
    def search(self, query: np.ndarray, k: int) -> None:
        found = self.store.search(query, k=k)
        exact = {
            key: float(np.linalg.norm(row.astype(np.float64) - query))
            for key, row in self.vectors.items()
        }
        expected = sorted(exact.values())[:k]
        np.testing.assert_allclose([hit.score for hit in found], expected, rtol=1e-4, atol=1e-4)
        for hit in found:
            assert hit.vector.tobytes() == self.vectors[hit.key].tobytes()

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule()
    def compact(self) -> None:
        self.db.compact()
        self.model = {key: history[-1:] for key, history in self.model.items()}

    @rule()
    def verify(self) -> None:
        report = self.db.verify()
        assert (report["ok"], report["damage"]) == (True, [])

    @rule(with_checkpoint=st.booleans())
    def open_what_a_killed_writer_leaves(self, with_checkpoint: bool) -> None:
        """Every commit is in the file at once: a copy of it answers as the open database does."""
        left = self.folder / "left"
        left.mkdir()
        for path in self.folder.glob("a.db*"):
            if path == self.path or with_checkpoint:
                shutil.copy(path, left)
        with SynaDB(left / "a.db") as db, VectorStore(db, WIDTH, metric="euclidean") as store:
            self.agree(db, store)
        shutil.rmtree(left)

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule()
    def reopen_without_the_checkpoint(self) -> None:
        self.close()
        for path in self.folder.iterdir():
            if path != self.path:
                path.unlink()
        self.open()

    @invariant()
    def everything_agrees(self) -> None:
        if hasattr(self, "db"):
            self.agree(self.db, self.store)

    def agree(self, db: SynaDB, store: VectorStore) -> None:
        """What a database and its store say is what the model says."""
        assert list(db) == sorted(self.model)
        assert (len(db), len(store)) == (len(self.model), len(self.vectors))
        assert sorted(store) == sorted(self.vectors)
        for key, history in self.model.items():
            assert repr(db.history(key)) == repr(history)
            assert repr(db[key]) == repr(history[-1])
            floats = [value for value in history if isinstance(value, float)]
            assert repr(db.get_history_tensor(key).tolist()) == repr(floats)
        for key, vector in self.vectors.items():
            assert store[key].tobytes() == vector.tobytes()


TestDatabaseMachine = DatabaseMachine.TestCase
TestDatabaseMachine.settings = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
