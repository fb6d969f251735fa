"""The parent's side: children that build an index or hold one, rounds that visit them all."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .adapter import Configuration
from .curves import TARGETS, Point, needed
from .measure import cpu_seconds, idlest
from .passing import Case
from .peers import CONTESTANTS, OURS, Peer, tag
from .sets import CACHE, VectorSet

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 900.0
RECALL_MIN = 0.3
"""Who finds less with every setting is not used as it is meant to be, and no contestant."""

TRYING = 0.3
"""Of the time that a setting gets in a round, what it gets while all are tried."""

POOLS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "TOKIO_WORKER", "LANCE_CPU")


class ChildError(Exception):
    """A child could not do what it was told; the message is the library's."""


def say(text: str) -> None:
    """Print what is being done, beside the table."""
    print(text, file=sys.stderr, flush=True)


class Child:
    """A process of `child.py`."""

    def __init__(self, peer: Peer, data: VectorSet, folder: Path, options: dict[str, Any],
                 cpus: list[int]) -> None:  # fmt: skip
        spec = {
            "peer": peer.name, "set": str(data.folder), "name": data.name, "metric": data.metric,
            "folder": str(folder), "options": options, "cpus": cpus,
        }  # fmt: skip
        paths = [str(path) for path in (peer.path, HERE.parent) if path is not None]
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
        environment |= {f"{pool}_NUM_THREADS": str(len(cpus)) for pool in POOLS}
        self.process = subprocess.Popen(
            # Not from the folder it is started in: the original has the name of ours.
            [sys.executable, "-P", "-m", "vectorbench.child", json.dumps(spec)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment,
        )  # fmt: skip
        self.errors = b""
        self.name = f"{peer.name} {options}"

    def ask(self, do: str, timeout_s: float = TIMEOUT_S, **more: Any) -> dict[str, Any]:
        """The answer to one command; raises `ChildError`."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ChildError(self.last_words()) from None
        answer: dict[str, Any] = json.loads(self.line(timeout_s))
        if "refused" in answer:
            raise ChildError(answer["refused"])
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer

    def line(self, timeout_s: float) -> bytes:
        """The next line of the child; what it prints to standard error meanwhile is taken in."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, error = self.process.stdout.fileno(), self.process.stderr.fileno()
        text, stop = b"", time.monotonic() + timeout_s
        while not text.endswith(b"\n"):
            ready = select.select([out, error], [], [], max(0.0, stop - time.monotonic()))[0]
            if not ready:
                raise ChildError(f"no answer within {timeout_s:.0f} s")
            if error in ready:
                self.errors = (self.errors + os.read(error, 1 << 16))[-4000:]
            if out in ready:
                piece = os.read(out, 1 << 20)
                if not piece:
                    raise ChildError(self.last_words())
                text += piece
        return text

    def last_words(self) -> str:
        """Why a child is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        assert self.process.stderr is not None
        self.errors = (self.errors + self.process.stderr.read())[-4000:]
        lines = self.errors.decode(errors="replace").strip().splitlines() or ["nothing printed"]
        return f"ended with {self.process.returncode}: {lines[-1][:300]}"

    def close(self) -> None:
        """End the child."""
        with contextlib.suppress(subprocess.TimeoutExpired, OSError, ValueError):
            self.process.communicate(timeout=20)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def child(*arguments: Any) -> Iterator[Child]:
    """A child that ends with the block."""
    made = Child(*arguments)
    try:
        yield made
    finally:
        made.close()


@dataclass
class Held:
    """An index of one configuration, in the cache, and the child that has it open."""

    peer: Peer
    configuration: Configuration
    folder: Path
    child: Child | None = None
    recalls: dict[str, float] = field(default_factory=dict)
    chosen: list[dict[str, Any]] = field(default_factory=list)
    opened: dict[str, Any] = field(default_factory=dict)
    is_out: bool = False
    only: set[str] | None = None
    """Names of points to try, in place of all."""

    def start(self) -> None:
        """Choose every setting, or those that were not beyond what is enough."""
        every = [] if self.is_out else self.configuration.sweep
        every = [s for s in every if self.only is None or key_of(self, s) in self.only]
        self.chosen = [s for s in every if not self.recalls or key_of(self, s) in self.recalls]

    @property
    def label(self) -> str:
        """What the configuration is called in tables."""
        return f"{self.peer.name} {self.configuration.label}"


def group_of(held: Held) -> str:
    """Whose curve a configuration is part of: its library's, or SymphonyQG's, or a kind of ours."""
    if held.peer.name == OURS:
        return f"{OURS} {held.configuration.build['kind']}"
    return f"{held.peer.name} symqg" if " symqg " in held.label else held.peer.name


def key_of(held: Held, settings: dict[str, Any]) -> str:
    """The name of a point."""
    words = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"{held.label}, {words}" if words else held.label


def built(peer: Peer, configuration: Configuration, data: VectorSet, threads: int) -> Path:
    """The folder of an index, from the cache or built anew; raises `ChildError`."""
    words = re.sub(r"[^\w.]+", "-", f"{peer.name}-{configuration.label}-{tag(peer)}")
    folder = CACHE / "indexes" / data.folder.name / words
    mark = folder / "built.json"
    if mark.is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    forget_older(folder, f"{peer.name}-{configuration.label}-")
    say(f"building {peer.name} {configuration.label} of {data.name}")
    cpus = sorted(os.sched_getaffinity(0))[:threads]
    with child(peer, data, folder, configuration.build, cpus) as builder:
        answer = builder.ask("build", threads=threads)
    if builder.process.returncode:
        raise ChildError(f"ended with {builder.process.returncode} after the build")
    mark.write_text(json.dumps({**answer, "threads": threads}) + "\n", encoding="ascii")
    return folder


def forget_older(folder: Path, name: str) -> None:
    """Remove indexes that an earlier version of the same library built."""
    start = re.sub(r"[^\w.]+", "-", name)
    if folder.parent.is_dir():
        for path in folder.parent.iterdir():
            if path.name.startswith(start) and re.match(r"\d", path.name.removeprefix(start)):
                shutil.rmtree(path)


class Fleet:
    """All configurations of some peers on one set, each open in a child of its own."""

    def __init__(
        self, data: VectorSet, names: list[str], threads: int, wanted: Callable[[str], bool]
    ) -> None:
        self.data = data
        self.failed: dict[str, str] = {}
        self.held: list[Held] = []
        self.tried: dict[str, list[dict[str, Any]]] = {}
        self.targets: Callable[[], Iterable[float]] = lambda: TARGETS
        self.cpu = idlest()
        for name in names:
            peer = CONTESTANTS[name]
            rows, dimensions = data.rows.shape
            for one in peer.adapter.configurations(data.metric, dimensions, rows):
                if wanted(f"{name} {one.label}"):
                    self.take_in(peer, one, threads)

    def take_in(self, peer: Peer, configuration: Configuration, threads: int) -> None:
        """Build where needed, and open; what fails is named and left out."""
        label = f"{peer.name} {configuration.label}"
        held = None
        try:
            folder = built(peer, configuration, self.data, threads)
            held = Held(peer, configuration, folder)
            held.child = Child(peer, self.data, folder, configuration.build, [self.cpu])
            held.opened = held.child.ask("open")
            self.held.append(held)
        except ChildError as error:
            say(f"  {label}: {error}")
            self.failed[label] = str(error)
            if held is not None and held.child is not None:
                held.child.close()

    def names_chosen(self) -> set[str]:
        """Names of the points that the last rounds took."""
        return {key_of(held, s) for held in self.held for s in held.chosen}

    def allow(self, case: Case, names: list[str], only: set[str] | None) -> None:
        """Have these peers search with a filter, and find out anew what to search with."""
        for held in self.held:
            held.recalls, held.only = {}, only
            held.is_out = held.peer.name not in names
            if held.is_out:
                continue
            try:
                assert held.child is not None
                held.child.ask("allow", share=case.share, way=case.way)
            except ChildError as error:
                self.failed[f"{held.label}, {case.share} %, {case.way}"] = str(error)
                held.is_out = True

    def cpu_s(self) -> float:
        """CPU seconds of the children that run."""
        return sum(cpu_seconds(h.child.process.pid) for h in self.held if h.child is not None)

    def close(self) -> None:
        """End all children."""
        for held in self.held:
            if held.child is not None:
                held.child.close()

    def rounds(
        self, count: int, seconds: float, one_by_one: bool, clock: str
    ) -> list[dict[str, list[dict[str, Any]]]]:
        """Points by label of configuration, a dict for each round, by turns in a mixed order.

        A round before them tries every setting, finds the recall and stays in `tried`. It does not
        count, for the fastest of many settings was the luckiest too. The others take those between
        which a rate is read, of each library.
        """
        found = []
        for held in self.held:
            held.start()
        shuffle = random.Random(7)
        for number in range(count + 1):
            say(f"round {number}/{count} of {self.data.name}")
            by_label: dict[str, list[dict[str, Any]]] = {}
            for held in shuffle.sample(self.held, len(self.held)):
                share = 1.0 if number else TRYING
                points = self.visit(held, seconds * share, one_by_one, clock)
                if points:
                    by_label[held.label] = points
            if number:
                found.append(by_label)
            else:
                self.leave_out_the_lost(by_label)
                self.tried = by_label
                self.choose(by_label)
        return found

    def leave_out_the_lost(self, by_label: dict[str, list[dict[str, Any]]]) -> None:
        """Name and leave out who finds next to nothing."""
        for held in self.held:
            best = max((p["recall"] for p in by_label.get(held.label, [])), default=1.0)
            if best < RECALL_MIN:
                self.failed[held.label] = f"finds {best:.3f} of the neighbours at most"
                held.chosen, held.is_out = [], True
                del by_label[held.label]

    def visit(
        self, held: Held, seconds: float, one_by_one: bool, clock: str
    ) -> list[dict[str, Any]]:
        """The points of one configuration in one round."""
        wanted = [s for s in held.chosen if key_of(held, s) not in held.recalls]
        points = []
        try:
            for some, is_new in ((wanted, True), ([s for s in held.chosen if s not in wanted], 0)):
                if some:
                    assert held.child is not None
                    points += held.child.ask(
                        "sweep", settings=some, seconds=seconds, one_by_one=one_by_one,
                        recall=bool(is_new),
                    )["points"]  # fmt: skip
        except ChildError as error:
            say(f"  {held.label}: {error}")
            self.failed[held.label] = str(error)
            held.chosen, held.is_out = [], True
            return []
        for point in points:
            point["label"] = key_of(held, point["settings"])
            held.recalls.setdefault(point["label"], point.get("recall", 0.0))
            point["recall"] = held.recalls[point["label"]]
            point["rate"] = point["per_cpu_s" if clock == "cpu" else "per_s"]
        return points

    def choose(self, by_label: dict[str, list[dict[str, Any]]]) -> None:
        """Keep the settings that decide a library's rate, or that of one of our kinds."""
        groups: dict[str, list[Point]] = {}
        for held in self.held:
            groups.setdefault(group_of(held), []).extend(
                Point(p["recall"], p["rate"], p["label"], held.label)
                for p in by_label.get(held.label, [])
            )
        targets = tuple(self.targets())
        kept: set[str] = set()
        for points in groups.values():
            kept |= needed(points, targets)
        for held in self.held:
            held.chosen = [s for s in held.chosen if key_of(held, s) in kept]
