"""The processes of a swarm: writers that are killed, and a reader that checks every commit."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from swarm_plan import (
    CHECKPOINT,
    COMPACT,
    GROWTH,
    IDLE,
    OPENING,
    PAIRS,
    ROWS,
    WIDTH,
    Board,
    Commit,
    commit_of,
)

from synadb import DatabaseClosedError, SynaDB, VectorStore

LOCK_TIMEOUT_S = 60.0
"""Longer than any holder is stopped."""


def open_file(path: Path, **options: object) -> tuple[SynaDB, VectorStore]:
    """The database and the vectors in it."""
    db = SynaDB(path, lock_timeout=LOCK_TIMEOUT_S, **options)
    return db, VectorStore(db, WIDTH, metric="euclidean")


def write(path: Path, board: Board, writer: int, dice: random.Random) -> None:
    """Commits what the board says is missing, with a checkpoint or compaction now and then."""
    board.say(writer, OPENING)
    saving = dice.choice([1 << 16, 1 << 18, 1 << 40])
    sync = writer == 0 and dice.random() < 0.2
    db, store = open_file(path, sync_on_write=sync, checkpoint_bytes=saving)
    board.say(writer, IDLE)
    for number in range(board.acknowledged(writer), board.commits):
        commit = Commit(writer, number)
        # The writer before may have been killed before it could say so.
        if commit.key not in db:
            board.say(writer, GROWTH if commit.size > 5000 else IDLE)
            put(db, store, commit)
            board.say(writer, IDLE)
        sequence = db.version(commit.key)
        assert sequence is not None
        board.acknowledge(commit, sequence)
        if dice.random() < 1 / 3000:
            board.say(writer, CHECKPOINT)
            db.checkpoint()
            board.say(writer, IDLE)
        if dice.random() < 1 / 10_000:
            board.say(writer, COMPACT)
            db.compact()
            board.say(writer, IDLE)
        if dice.random() < 1 / 5000:
            store.close()
            db.close()
            return write(path, board, writer, dice)
    store.close()
    return db.close()


def put(db: SynaDB, store: VectorStore, commit: Commit) -> None:
    """Does one commit."""
    if not commit.is_common:
        db.put(commit.key, commit.value)
        return
    with db.transaction() as t:
        t.put(commit.key, commit.value)
        for key in commit.pair:
            t.put(key, commit.code)
        t.put("common", t.get("common", 0) + 1)
        t.insert(store, commit.row_key, commit.row)


class Reader:
    """Follows the log without a lock, and checks every commit once it is visible."""

    def __init__(self, path: Path, board: Board) -> None:
        self.board, self.path = board, path
        self.seen = [0] * board.writers
        """Commits of each writer that were checked."""
        self.looks = self.generations = 0
        self.generation = -1
        self.db, self.store = open_file(path, access="read_only")

    def read(self) -> None:
        """Looks until all writers have done all."""
        while not self.board.is_over:
            self.look()
            time.sleep(0.002)
        self.look()
        assert self.seen == [self.board.commits] * self.board.writers
        self.check_order()
        print(f"reader: {self.looks} looks, {self.generations} generations, {sum(self.seen)} seen")

    def look(self) -> None:
        """What was acknowledged before is visible now; all that is visible is whole."""
        acknowledged = [self.board.acknowledged(writer) for writer in range(self.board.writers)]
        # A file that was empty when the reader opened it had no vectors yet.
        self.db.refresh()
        self.looks += 1
        generation = self.db.stats()["generation"]
        self.generations += generation != self.generation
        is_same, self.generation = generation == self.generation, generation
        new = [commit for writer in range(self.board.writers) for commit in self.new_of(writer)]
        for writer, count in enumerate(acknowledged):
            assert self.seen[writer] >= count, f"writer {writer}: acknowledged commits are lost"
        self.check_pairs(new, is_same)
        self.check_rows()

    def new_of(self, writer: int) -> list[Commit]:
        """Commits of a writer that have come since the last look, each with its own value."""
        new = []
        while self.seen[writer] < self.board.commits:
            commit = Commit(writer, self.seen[writer])
            value = self.db.get(commit.key)
            if value is None:
                after = Commit(writer, commit.number + 1)
                assert after.key not in self.db, f"{after} without the one before"
                break
            assert value == commit.value, commit
            new.append(commit)
            self.seen[writer] += 1
        return new

    def check_pairs(self, new: list[Commit], is_same_generation: bool) -> None:
        """Both keys of a pair hold the same commits, each writer's in order, and all new ones."""
        common = sum((count + 1) // 2 for count in self.seen)
        assert self.db.get("common", 0) == common, "a transaction did not see the one before"
        histories = {}
        for pair in range(PAIRS):
            history = self.db.history(f"pair/{pair}/a")
            assert history == self.db.history(f"pair/{pair}/b"), "a commit is torn"
            by_writer = defaultdict(list)
            for code in history:
                commit = commit_of(code)
                assert commit.number < self.seen[commit.writer], f"{commit} is there in part"
                by_writer[commit.writer].append(commit.number)
            for numbers in by_writer.values():
                assert numbers == sorted(set(numbers)), "commits of a writer are out of order"
            histories[f"pair/{pair}/a"] = set(history)
        if is_same_generation:
            for commit in new:
                assert not commit.is_common or commit.code in histories[commit.pair[0]], commit

    def check_rows(self) -> None:
        """Each vector is whole, and that of a commit that is visible."""
        for row in range(ROWS):
            found = self.store.get(f"row/{row}")
            if found is None:
                continue
            commit = Commit(int(found[0]) - 1, int(found[1]))
            assert found.tolist() == commit.row, "a row of two commits"
            assert commit.row_key == f"row/{row}"
            assert commit.number < self.seen[commit.writer], f"the row of {commit} came before it"
            assert self.store.search(found, k=1)[0].vector.tobytes() == found.tobytes()

    def check_order(self) -> None:
        """At the end: all commits are in one order, and the last of each key is what it holds."""
        writers, numbers = range(self.board.writers), range(self.board.commits)
        order = {}
        for writer in writers:
            sequences = [self.board.sequence(Commit(writer, number)) for number in numbers]
            assert sequences == sorted(sequences), "commits of a writer are out of order"
            order.update({s: Commit(writer, n) for n, s in enumerate(sequences)})
        assert len(order) == self.board.writers * self.board.commits
        last = {}
        for sequence in sorted(order):
            if order[sequence].is_common:
                last[order[sequence].pair[0]] = order[sequence]
                last[order[sequence].row_key] = order[sequence]
        for key, commit in last.items():
            if key.startswith("pair"):
                assert self.db[key] == commit.code
            else:
                assert np.array_equal(self.store[key], commit.row)


def read(path: Path, board: Board) -> None:
    """The reader's process."""
    while True:
        try:
            reader = Reader(path, board)
            break
        except (FileNotFoundError, DatabaseClosedError):
            time.sleep(0.01)
    reader.read()
