"""The program of a writer that is killed: which act comes at which number, and what it changes.

An act depends on seed and number alone, so that who kills knows what the killed one was doing.
Each act is one commit at most: it is there whole or not at all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from synadb import SynaDB, VectorStore

WIDTH = 16
LARGE_BYTES = 4 << 20
"""A value of more bytes lies in an extent."""

KINDS = {
    "put": 30,
    "batch": 12,
    "append_many": 12,
    "delete": 6,
    "insert": 12,
    "insert_batch": 6,
    "delete_vector": 4,
    "large": 5,
    "checkpoint": 4,
    "compact": 4,
    "reopen": 2,
}
"""Kinds of acts, with their weights."""


class Act(NamedTuple):
    """One step of the program, with the keys and values that it changes; `None` deletes."""

    kind: str
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass
class Model:
    """What the file must hold: the history of each key, the vector of each key."""

    histories: dict[str, list[Any]] = field(default_factory=dict)
    vectors: dict[str, bytes] = field(default_factory=dict)

    def after(self, act: Act) -> Model:
        """The model once the act is done."""
        histories = {key: list(history) for key, history in self.histories.items()}
        model = Model(histories, dict(self.vectors))
        model.do(act)
        return model

    def do(self, act: Act) -> None:
        """Does the act to the model."""
        if act.kind == "compact":
            self.histories = {key: history[-1:] for key, history in self.histories.items()}
        for key, value in act.changes:
            if act.kind in ("insert", "insert_batch"):
                self.vectors[key] = value.tobytes()
            elif act.kind == "delete_vector":
                self.vectors.pop(key, None)
            elif value is None:
                self.histories.pop(key, None)
            elif act.kind == "append_many":
                self.histories.setdefault(key, []).extend(value)
            else:
                self.histories.setdefault(key, []).append(value)


def act_of(seed: int, number: int, kinds: Mapping[str, float] = KINDS) -> Act:
    """The act at `number` of the program `seed`."""
    dice = random.Random((seed << 32) + number)
    kind = dice.choices(list(kinds), list(kinds.values()))[0]
    return Act(kind, tuple(_changes(kind, dice)))


def _changes(kind: str, dice: random.Random) -> Iterator[tuple[str, Any]]:
    if kind == "put":
        yield _key(dice), _value(dice)
    elif kind == "batch":
        for _ in range(dice.randint(1, 20)):
            yield _key(dice), None if dice.random() < 0.2 else _value(dice)
        if dice.random() < 0.1:
            yield _large(dice)
    elif kind == "append_many":
        count = dice.choice([1, 5, 200, 3000])
        yield f"run/{dice.randrange(3)}", [dice.random() for _ in range(count)]
    elif kind == "delete":
        yield _key(dice), None
    elif kind in ("insert", "insert_batch"):
        rows = np.random.default_rng(dice.getrandbits(32))
        for _ in range(1 if kind == "insert" else dice.randint(2, 60)):
            yield f"v{dice.randrange(100)}", rows.standard_normal(WIDTH, dtype=np.float32)
    elif kind == "delete_vector":
        yield f"v{dice.randrange(100)}", None
    elif kind == "large":
        yield _large(dice)


def _key(dice: random.Random) -> str:
    return f"k{dice.randrange(40)}" if dice.random() < 0.9 else f"run/{dice.randrange(3)}"


def _value(dice: random.Random) -> Any:
    kind = dice.randrange(4)
    if kind == 0:
        return dice.randint(-(2**63), 2**63 - 1)
    if kind == 1:
        return dice.uniform(-1e9, 1e9)
    count = dice.choice([0, 10, 100, 6000])
    return "t" * count if kind == 2 else dice.randbytes(count)


def _large(dice: random.Random) -> tuple[str, bytes]:
    return f"large/{dice.randrange(2)}", dice.randbytes(8) * (
        LARGE_BYTES // 8 + dice.randint(1, 9999)
    )


class Writer:
    """An open file on which acts are done."""

    def __init__(self, path: str, sync_on_write: bool, checkpoint_bytes: int) -> None:
        self.path, self.sync_on_write, self.checkpoint_bytes = path, sync_on_write, checkpoint_bytes
        self.open()

    def open(self) -> None:
        """Open the file, and the vectors in it."""
        self.db = SynaDB(
            self.path, sync_on_write=self.sync_on_write, checkpoint_bytes=self.checkpoint_bytes
        )
        self.store = VectorStore(self.db, WIDTH, metric="euclidean")

    def close(self) -> None:
        """Close both handles, and with the last of them the file."""
        self.store.close()
        self.db.close()

    def do(self, act: Act) -> None:
        """Do one act."""
        keys = [key for key, _ in act.changes]
        if act.kind in ("put", "large"):
            self.db.put(*act.changes[0])
        elif act.kind == "batch":
            self._commit(act)
        elif act.kind == "append_many":
            self.db.append_many(*act.changes[0])
        elif act.kind == "delete":
            self.db.delete(keys[0])
        elif act.kind == "insert":
            self.store.insert(*act.changes[0])
        elif act.kind == "insert_batch":
            self.store.insert_batch(keys, np.array([row for _, row in act.changes]))
        elif act.kind == "delete_vector":
            self.store.delete(keys[0])
        elif act.kind == "checkpoint":
            self.db.checkpoint()
        elif act.kind == "compact":
            self.db.compact()
        else:
            self.close()
            self.open()

    def _commit(self, act: Act) -> None:
        with self.db.batch() as batch:
            for key, value in act.changes:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
