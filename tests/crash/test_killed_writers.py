"""A writing process is killed at random moments: what it acknowledged is there, and in order.

`SYNADB_CRASH_ROUNDS` says how often (20; `make crash` says 200).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from crash_program import WIDTH, Act, Model, act_of
from killed_child import Killed, Moment, kill_a_writer

from synadb import SynaDB, VectorStore

ROUNDS = int(os.environ.get("SYNADB_CRASH_ROUNDS", "20"))
ROUND_S = 10
"""Seconds that a round may take on a busy machine."""
ROUNDS_A_FILE = 5
AIMED = ("compact", "checkpoint")
"""Acts that some of the kills are aimed at."""


class KilledFile:
    """A file whose writers are killed, and what it must hold."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path, self.seed = path, seed
        self.next, self.model = 0, Model()
        """The number of the next act, and what the file holds before it."""

    def kill(self, dice: random.Random) -> Killed:
        """Let a writer go on with the program, and kill it."""
        sync_on_write, checkpoint_bytes = dice.random() < 0.5, dice.choice([64 << 10, 256 << 20])
        arguments = [self.path, self.seed, self.next, sync_on_write, checkpoint_bytes]
        killed = kill_a_writer(arguments, self._moment(dice))
        assert killed.acknowledged == list(range(self.next, self.next + len(killed.acknowledged)))
        return killed

    def _moment(self, dice: random.Random) -> Moment:
        aim = dice.choice(["opening", "act", "act", "act", *AIMED, *AIMED])
        if aim == "opening":
            return Moment(lambda line: line == "open", dice.uniform(0, 0.003))
        near = f"done {self.next + dice.randint(0, 60)}"
        if aim in AIMED:
            found = next(n for n in count(self.next) if act_of(self.seed, n).kind == aim)
            near = f"begin {found}"
        return Moment(lambda line: line == near, dice.uniform(0, 0.005))

    def check(self, killed: Killed) -> str:
        """Compare with the model, which moves on; what the writer was killed in.

        An act that it was killed in may be there in full, or not at all.
        """
        for number in killed.acknowledged:
            self.model = self.model.after(act_of(self.seed, number))
        self.next += len(killed.acknowledged)
        within = Act(killed.within) if killed.number is None else act_of(self.seed, killed.number)
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            bare = Path(folder) / "without-checkpoint.db"
            shutil.copyfile(self.path, bare) if self.path.exists() else bare.touch()
            found = read_back(self.path)
            assert read_back(bare) == found, "a replay of the whole log gives the same"
        if found != self.model:
            assert killed.number == self.next, "an act that nobody had begun"
            self.model = self.model.after(within)
            self.next += 1
            assert found == self.model, f"neither with nor without {within.kind}"
        return within.kind


def read_back(path: Path) -> Model:
    """What the file holds, read in every way, and verified."""
    with SynaDB(path) as db, VectorStore(db, WIDTH, metric="euclidean") as store:
        model = Model({key: db.history(key) for key in db})
        assert db.get_many(db) == [history[-1] for history in model.histories.values()]
        for key, history in model.histories.items():
            floats = [value for value in history if isinstance(value, float)]
            assert db.get_history_tensor(key).tolist() == floats
        for key in store:
            row = store[key]
            model.vectors[key] = row.tobytes()
            assert store.search(row, k=1)[0].vector.tobytes() == model.vectors[key]
        assert (len(db), len(store)) == (len(model.histories), len(model.vectors))
        report = db.verify()
    assert report["ok"], report["damage"]
    assert not [beside for beside in path.parent.iterdir() if "-tmp-" in beside.name]
    return model


@pytest.mark.timeout(60 + ROUND_S * ROUNDS)
def test_acknowledged_acts_survive_kills_in_order(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(1)
    acknowledged, kills = 0, Counter[str]()
    for number in range(ROUNDS):
        if number % ROUNDS_A_FILE == 0:
            folder = tmp_path / str(number)
            folder.mkdir()
            file = KilledFile(folder / "a.db", seed=number)
        killed = file.kill(dice)
        kills[file.check(killed)] += 1
        acknowledged += len(killed.acknowledged)
        if number % ROUNDS_A_FILE == ROUNDS_A_FILE - 1:
            shutil.rmtree(folder)
    with capfd.disabled():
        counts = ", ".join(f"{kind} {count}" for kind, count in kills.most_common())
        print(f"\n{ROUNDS} rounds, {acknowledged} acts acknowledged; killed in: {counts}")
    assert acknowledged >= ROUNDS
    assert sum(kills[kind] for kind in AIMED) >= ROUNDS // 20
