"""A swarm: several processes write to one file, and are killed or stopped at random moments.

`python swarm.py PATH SEED WRITERS COMMITS`: each writer does so many commits, however often it is
killed; a reader without a lock checks every one of them. The last line counts; a failure ends the
program with a status other than 0.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from forked import end_with_parent, fork
from swarm_plan import CHECKPOINT, COMPACT, GROWTH, IDLE, OPENING, Board
from swarm_roles import Reader, read, write

from synadb import SynaDB

NAMES = {OPENING: "opening", CHECKPOINT: "checkpoint", COMPACT: "compaction", GROWTH: "growth"}
AIM_S = 0.05
"""How long to wait for a writer that does what a kill is aimed at."""


class Swarm:
    """The processes, and what was done to them."""

    def __init__(self, path: Path, seed: int, writers: int, commits: int) -> None:
        self.path, self.dice = path, random.Random(seed)
        self.board = Board(writers, commits)
        self.pids: dict[int, int] = {}
        """Of each writer that has not done all."""
        self.killed = Counter[str]()
        self.stops = 0

    def run(self) -> None:
        """Starts all, kills them until they have done all, and checks."""
        for writer in range(self.board.writers):
            self.start(writer)
        reader = fork(lambda: read(self.path, self.board))
        while self.pids:
            time.sleep(self.dice.uniform(0, 0.04))
            self.reap()
            if self.pids:
                self.strike()
        self.board.end()
        _, status = os.waitpid(reader, 0)
        assert status == 0, "the reader has found something"
        self.check_the_rest()

    def start(self, writer: int) -> None:
        """Starts a writer, or starts it again."""
        dice = random.Random(self.dice.getrandbits(64))
        self.pids[writer] = fork(lambda: write(self.path, self.board, writer, dice))

    def reap(self) -> None:
        """Starts those again that were killed, and lets go of those that have done all."""
        for writer, pid in list(self.pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            del self.pids[writer]
            if status == signal.SIGKILL:
                self.start(writer)
            else:
                assert status == 0, f"writer {writer} ended with status {status}"
                assert self.board.acknowledged(writer) == self.board.commits

    def strike(self) -> None:
        """Kills a writer or all of them, at a random moment or in something that takes long."""
        what = self.dice.random()
        if what < 0.1:
            self.stop()
        elif what < 0.15:
            # The next one is alone, and recovers.
            for writer in list(self.pids):
                self.kill(writer)
        elif what < 0.6:
            aim = self.dice.choice(list(NAMES))
            until = time.monotonic() + AIM_S
            while time.monotonic() < until:
                if found := [w for w in self.pids if self.board.doing(w) == aim]:
                    time.sleep(self.dice.choice([0, self.dice.uniform(0, 0.005)]))
                    self.kill(self.dice.choice(found))
                    break
        else:
            self.kill(self.dice.choice(list(self.pids)))

    def kill(self, writer: int) -> None:
        """Kills one writer."""
        doing = self.board.doing(writer)
        os.kill(self.pids[writer], signal.SIGKILL)
        self.killed[NAMES.get(doing, "commits")] += 1
        self.board.say(writer, IDLE)

    def stop(self) -> None:
        """Stops a writer for a while; some are killed while they are stopped."""
        writer = self.dice.choice(list(self.pids))
        os.kill(self.pids[writer], signal.SIGSTOP)
        self.stops += 1
        time.sleep(self.dice.uniform(0, 0.03))
        if self.dice.random() < 0.3:
            self.kill(writer)
        else:
            os.kill(self.pids[writer], signal.SIGCONT)

    def check_the_rest(self) -> None:
        """A replay of the whole log gives the same, and nothing is left beside the file."""
        bare = self.path.with_name("without-checkpoint.db")
        shutil.copyfile(self.path, bare)
        reader = Reader(bare, self.board)
        reader.look()
        reader.check_order()
        for path in (bare, self.path):
            with SynaDB(path) as db:
                report = db.verify()
            assert report["ok"], report["damage"]
        assert not list(self.path.parent.glob("*-tmp-*"))
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.killed.most_common())
        total = self.board.writers * self.board.commits
        print(
            f"{total} commits; {self.killed.total()} kills, {self.stops} stops; killed in: {kinds}"
        )


if __name__ == "__main__":
    end_with_parent()
    Swarm(Path(sys.argv[1]), *map(int, sys.argv[2:5])).run()
