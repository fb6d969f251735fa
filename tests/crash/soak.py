"""A soak: writers, readers, compactions, backups, kills and reopens on one file, against a model.

`python soak.py FOLDER SEED SECONDS`: each writer does the acts of a program of its own, one commit
each, with their number in it; so whoever sees a number knows from the program what else there must
be. Readers, and copies made by `backup`, are compared with that. The last line counts.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crash_program import WIDTH, Act, Model, act_of
from forked import end_with_parent, fork
from swarm_plan import Board

from synadb import SynaDB, VectorStore

WRITERS = 4
READERS = 2
KINDS = {
    "put": 30.0, "batch": 12.0, "append_many": 6.0, "delete": 6.0, "insert": 12.0,
    "insert_batch": 3.0, "delete_vector": 4.0, "large": 0.02,
}  # fmt: skip
EPOCH = 2000
"""After so many acts a writer deletes all that it has, so that a model is soon made anew."""
LOCK_TIMEOUT_S = 60.0


def open_file(path: Path, **options: Any) -> tuple[SynaDB, VectorStore]:
    """The database and the vectors in it."""
    db = SynaDB(path, lock_timeout=LOCK_TIMEOUT_S, **options)
    return db, VectorStore(db, WIDTH, metric="euclidean")


def commit(db: SynaDB, store: VectorStore, writer: int, act: Act, number: int) -> None:
    """One act, in one commit, with the number of acts that are done by then."""
    with db.transaction() as t:
        if number % EPOCH == 0:
            for key in db.keys(prefix=f"{writer}/"):
                t.delete(key)
            for key in store.keys():  # noqa: SIM118
                if key.startswith(f"{writer}/"):
                    t.remove(store, key)
        for key, value in act.changes:
            name = f"{writer}/{key}"
            if act.kind in ("insert", "insert_batch"):
                t.insert(store, name, value)
            elif act.kind == "delete_vector":
                t.remove(store, name)
            elif value is None:
                t.delete(name)
            elif act.kind == "append_many":
                t.append_many(name, value)
            else:
                t.put(name, value)
        t.put(f"done/{writer}", number + 1)


class Expected:
    """What each writer must have written once it says how far it is."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.done = [0] * WRITERS
        self.models = [Model() for _ in range(WRITERS)]
        self.compared = 0

    def compare(self, db: SynaDB, store: VectorStore) -> None:
        """Everything that is there is what the programs say, for one moment of each."""
        keys, rows = set(db), set(store)
        for writer, model in enumerate(self.models):
            done = db.get(f"done/{writer}", 0)
            assert done >= self.done[writer], f"writer {writer} has gone back to {done}"
            epoch = max(done - 1, 0) // EPOCH * EPOCH
            if epoch >= self.done[writer]:
                model.histories, model.vectors = {}, {}
            for number in range(max(self.done[writer], epoch), done):
                model.do(act_of(self.seed + writer, number, KINDS))
            self.done[writer] = done
            wanted = {f"{writer}/{key}": history for key, history in model.histories.items()}
            assert {key for key in keys if key.startswith(f"{writer}/")} == set(wanted)
            for key, history in wanted.items():
                found = db.history(key)
                assert found, key
                assert found[-len(history) :] == history[-len(found) :], f"{key} after {done} acts"
            vectors = {f"{writer}/{key}": row for key, row in model.vectors.items()}
            assert {key for key in rows if key.startswith(f"{writer}/")} == set(vectors)
            assert {key: store[key].tobytes() for key in vectors} == vectors
        self.compared += 1


class Soak:
    """The processes, and what they share."""

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self.folder, self.path, self.seed = folder, folder / "a.db", seed
        self.dice = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.board = Board(WRITERS + READERS + 2, 0)
        self.counts = Counter[str]()
        self.pids: dict[str, int] = {}

    def write(self, writer: int, dice: random.Random) -> None:
        """A writer: goes on with its program where the file says that it is."""
        while not self.board.is_over:
            saving = dice.choice([1 << 16, 1 << 20, 1 << 40])
            db, store = open_file(
                self.path, sync_on_write=dice.random() < 0.1, checkpoint_bytes=saving
            )
            number = db.get(f"done/{writer}", 0)
            assert number >= self.board.acknowledged(writer), "an acknowledged commit is lost"
            for _ in range(dice.choice([10, 1000, 5000])):
                if self.board.is_over:
                    break
                act = act_of(self.seed + writer, number, KINDS)
                commit(db, store, writer, act, number)
                number += 1
                self.board.reach(writer, number)
            store.close()
            db.close()

    def read(self, place: int, dice: random.Random) -> None:
        """A reader without a lock, which follows the log or opens it anew."""
        expected = Expected(self.seed)
        while not self.board.is_over:
            try:
                db, store = open_file(self.path, access="read_only")
            except FileNotFoundError:
                time.sleep(0.01)
                continue
            for _ in range(dice.choice([1, 20, 100])):
                if self.board.is_over:
                    break
                acknowledged = [self.board.acknowledged(writer) for writer in range(WRITERS)]
                db.refresh()
                expected.compare(db, store)
                assert all(map(int.__ge__, expected.done, acknowledged)), "commits are lost"
                self.board.reach(place, self.board.acknowledged(place) + 1)
                time.sleep(dice.uniform(0, 0.05))
            store.close()
            db.close()

    def keep_house(self, place: int, dice: random.Random) -> None:
        """Compacts, saves, verifies and backs up; what a copy holds is compared as well."""
        while not self.board.is_over:
            db, store = open_file(self.path, sync_on_write=False)
            for _ in range(dice.choice([1, 5, 20])):
                if self.board.is_over:
                    break
                act = dice.choice(["compact", "checkpoint", "verify", "backup"])
                if act == "backup":
                    self.back_up(db)
                elif act == "verify":
                    assert db.verify()["ok"]
                else:
                    getattr(db, act)()
                self.board.reach(place, self.board.acknowledged(place) + 1)
                time.sleep(dice.uniform(0, 0.3))
            store.close()
            db.close()

    def back_up(self, db: SynaDB) -> None:
        """A copy of the open file holds one moment of it."""
        copy = self.folder / "copies" / f"{os.getpid()}.db"
        copy.parent.mkdir(exist_ok=True)
        for left in copy.parent.iterdir():
            left.unlink()
        db.backup(copy)
        copied, rows = open_file(copy)
        Expected(self.seed).compare(copied, rows)
        assert copied.verify()["ok"]
        rows.close()
        copied.close()

    def run(self) -> None:
        """Until the time is over: starts all, kills and stops some, and starts them again."""
        roles: dict[str, Callable[[random.Random], None]] = {}
        for writer in range(WRITERS):
            roles[f"writer {writer}"] = lambda dice, writer=writer: self.write(writer, dice)
        for reader in range(READERS):
            place = WRITERS + reader
            roles[f"reader {reader}"] = lambda dice, place=place: self.read(place, dice)
        roles["house"] = lambda dice: self.keep_house(WRITERS + READERS, dice)
        while time.monotonic() < self.until:
            for role, work in roles.items():
                if role not in self.pids:
                    dice = random.Random(self.dice.getrandbits(64))
                    self.pids[role] = fork(lambda work=work, dice=dice: work(dice))
            time.sleep(self.dice.uniform(0, 0.3))
            self.reap()
            if self.pids:
                self.strike()
        self.board.end()
        for role, pid in self.pids.items():
            _, status = os.waitpid(pid, 0)
            assert status in (0, signal.SIGKILL), f"{role} ended with status {status}"
        self.check_at_the_end()

    def strike(self) -> None:
        """Kills one process, or all of them; or stops one for a while."""
        # Readers are killed rarely: they must get to compare something.
        patient = [role for role in self.pids if not role.startswith("reader")]
        what = self.dice.random()
        chosen = self.dice.choice(patient if patient and what < 0.95 else list(self.pids))
        if what < 0.1:
            os.kill(self.pids[chosen], signal.SIGSTOP)
            time.sleep(self.dice.uniform(0, 0.1))
            os.kill(self.pids[chosen], signal.SIGCONT)
            self.counts["stops"] += 1
            return
        for role in list(self.pids) if what < 0.15 else [chosen]:
            os.kill(self.pids[role], signal.SIGKILL)
            self.counts["kills"] += 1

    def reap(self) -> None:
        """Lets go of those that were killed, to be started again."""
        for role, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                assert status == signal.SIGKILL, f"{role} ended with status {status}"
                del self.pids[role]

    def check_at_the_end(self) -> None:
        """File and replay of the whole log hold what the programs say."""
        bare = self.folder / "without-checkpoint.db"
        shutil.copyfile(self.path, bare)
        for path in (bare, self.path):
            db, store = open_file(path)
            expected = Expected(self.seed)
            expected.compare(db, store)
            done = [self.board.acknowledged(writer) for writer in range(WRITERS)]
            assert all(map(int.__ge__, expected.done, done)), "commits are lost"
            assert db.verify()["ok"]
            store.close()
            db.close()
        assert not list(self.folder.glob("*-tmp-*"))
        commits, looks = sum(done), sum(map(self.board.acknowledged, range(WRITERS, WRITERS + 2)))
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        house = self.board.acknowledged(WRITERS + READERS)
        print(f"{commits} commits, {looks} looks, {house} compactions and the like, {counts}")


if __name__ == "__main__":
    end_with_parent()
    Soak(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])).run()
