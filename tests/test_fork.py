"""Handles in child processes: forked, spawned, made by a fork server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import warnings
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import DbConfig, SynaDB, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def in_child(act: Callable[[], Any]) -> Any:
    """What `act` returns in a forked child; its exception, as text, where it raises."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            result = act()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writer, pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:  # noqa: PTH123
        data = file.read()
    os.waitpid(pid, 0)
    return pickle.loads(data)


def succeed_as_a_tree(program: str, *arguments: str) -> None:
    """Runs a program that forks, in a session of its own: a child that hangs ends with it."""
    command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
    with subprocess.Popen(command, start_new_session=True) as tree:
        try:
            assert tree.wait(timeout=50) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(tree.pid, signal.SIGKILL)


def test_forked_child_reads_and_writes_beside_its_parent(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        db.put("parent", 1)

        def child() -> tuple[Any, ...]:
            before = db["parent"]
            for n in range(1000):
                db.put("both", n)
            return before, db.stats()["access"], len(db.history("both"))

        assert in_child(child) == (1, "shared", 1000)
        for n in range(1000):
            db.put("both", n)
        assert db.history("both") == [*range(1000), *range(1000)]
        assert db.verify()["ok"]


def test_parent_and_children_write_at_once(path: Path) -> None:
    count, children = 2000, []
    with SynaDB(path, sync_on_write=False) as db:
        db.put("before", 0)
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                for n in range(count):
                    db.put(f"child/{child}", n)
                os._exit(0)
            children.append(pid)
        for n in range(count):
            db.put("parent", n)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
        for key in ["parent", "child/0", "child/1", "child/2"]:
            assert db.history(key) == list(range(count))
        assert db.verify()["ok"]


def test_child_does_not_keep_its_parents_lock(path: Path) -> None:
    db = SynaDB(path, access="exclusive")
    db.put("a", 1)
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    db.close()
    with SynaDB(path, access="exclusive") as again:
        again.put("a", 2)
    os.write(go[1], b"x")
    os.waitpid(pid, 0)
    for descriptor in (*ready, *go):
        os.close(descriptor)


def test_child_of_an_exclusive_writer_may_read_only(path: Path) -> None:
    with SynaDB(path, access="exclusive") as db:
        db.put("a", 1)
        assert in_child(lambda: db["a"]) == 1
        refused = in_child(lambda: db.put("a", 2))
        assert refused.startswith("DatabaseLockedError")
        assert str(os.getpid()) in refused
        assert db.history("a") == [1]


def test_child_of_an_exclusive_writer_writes_once_it_is_gone(path: Path) -> None:
    code = (
        "import os, sys, synadb\n"
        "db = synadb.SynaDB(sys.argv[1], access='exclusive', lock_timeout=20)\n"
        "db.put('a', 1)\n"
        "gone, alive = os.pipe()\n"
        "if os.fork():\n"
        "    os._exit(0)\n"
        "os.close(alive)\n"
        "os.read(gone, 1)\n"
        "assert db['a'] == 1\n"
        "db.put('a', 2)\n"
        "print(db.history('a'), db.stats()['access'], flush=True)\n"
    )
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.close(writer)
        os.close(reader)
        os.execv(sys.executable, [sys.executable, "-c", code, str(path)])
    os.close(writer)
    with open(reader, encoding="ascii") as output:  # noqa: PTH123
        assert output.read() == "[1, 2] exclusive\n"
    os.waitpid(pid, 0)


def test_fork_while_the_write_lock_is_held_and_the_parent_dies(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        db.put("a", 0)
        ready, go = os.pipe(), os.pipe()
        holder = os.fork()
        if holder == 0:
            for n in range(1000):
                db.put("a", n)
            if os.fork() == 0:
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                os._exit(0)
            while True:
                db.put("a", n)
        os.read(ready[0], 1)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        db.put("b", "the grandchild holds nothing")
        os.write(go[1], b"x")
        for descriptor in (*ready, *go):
            os.close(descriptor)


@pytest.mark.parametrize("call", ["backup", "compact", "verify"])
def test_child_that_a_progress_function_forks_does_not_wait_for_its_parents_thread(
    path: Path, tmp_path: Path, call: str
) -> None:
    program = textwrap.dedent(
        """
        import os, sys, synadb
        db = synadb.SynaDB(sys.argv[1])
        db.put("k", bytes(8 << 20))
        parent, children = os.getpid(), []
        def fork(done, total):
            if os.getpid() == parent:
                child = os.fork()
                if child:
                    children.append(child)
        try:
            report = getattr(db, sys.argv[2])(*sys.argv[3:], progress=fork)
        except synadb.UnsupportedError as error:
            assert str(parent) in str(error) and "forked" in str(error), error
            assert len(db["k"]) == 8 << 20
            os._exit(os.getpid() == parent)
        assert os.getpid() == parent and children and report
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert not any(codes), codes
        """
    )
    arguments = [str(path), call, *([str(tmp_path / "copy.db")] if call == "backup" else [])]
    succeed_as_a_tree(program, *arguments)


def test_handles_of_a_store_live_on_in_a_child(path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    with VectorStore(path, 4, sync_on_write=False) as store:
        store.insert("a", rows[0])

        def child() -> str:
            store.insert("b", rows[1])
            return store.search(rows[1], k=1)[0].key

        assert in_child(child) == "b"
        assert store.search(rows[1], k=1)[0].key == "b"


def test_child_searches_with_a_filter_that_a_thread_of_its_parent_was_using(path: Path) -> None:
    program = """if True:
        import os, sys, threading
        import numpy as np, synadb
        store = synadb.VectorStore(sys.argv[1], 2, sync_on_write=False)
        rows = np.random.default_rng(0).standard_normal((50_000, 2)).astype(np.float32)
        store.insert_batch([f"k{number}" for number in range(len(rows))], rows)
        shared, go = [synadb.KeyFilter(prefix="k1")], True
        def search():
            while go:
                shared[0] = synadb.KeyFilter(prefix="k1")
                store.search(rows[0], k=1, filter=shared[0])
        thread = threading.Thread(target=search)
        thread.start()
        children = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                used = shared[0]
                found = [store.search(rows[0], k=5, filter=used) for _ in range(2)]
                os._exit(not all(hit.key.startswith("k1") for hits in found for hit in hits))
            children.append(child)
        go = False
        thread.join()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert not any(codes), codes
    """
    succeed_as_a_tree(program, str(path))


@pytest.mark.parametrize("left", ["nothing", "folder", "another database"])
def test_child_says_that_its_parents_file_is_gone_and_makes_none(tmp_path: Path, left: str) -> None:
    folder, moved = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    with SynaDB(tmp_path / "b.db") as other:
        other.put("k", "of another database")
    with SynaDB(folder / "a.db") as db:
        db.put("k", 1)
        folder.rename(moved)
        if left != "nothing":
            folder.mkdir()
        if left == "another database":
            (tmp_path / "b.db").rename(folder / "a.db")
        before = sorted(tmp_path.rglob("*"))
        for act in (lambda: db["k"], lambda: db.put("k", 2)):
            refused = in_child(act)
            assert refused.startswith(f"DatabaseMissingError: {folder / 'a.db'}: a forked child")
        assert sorted(tmp_path.rglob("*")) == before
        assert db.history("k") == [1]


def test_closing_in_a_child_leaves_the_parents_handle(path: Path) -> None:
    with SynaDB(path) as db:
        db.put("a", 1)
        assert in_child(db.close) is None
        db.put("a", 2)
        assert db.history("a") == [1, 2]


def put_in_worker(argument: tuple[SynaDB, int]) -> int:
    """Work for a pool: one commit on a handle that travelled to the worker."""
    db, number = argument
    db.put("from/workers", number)
    return number


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_handles_travel_to_workers(path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    with SynaDB(path, sync_on_write=False) as db, context.Pool(2) as pool:
        assert sorted(pool.map(put_in_worker, [(db, n) for n in range(20)])) == list(range(20))
        assert sorted(db.history("from/workers")) == list(range(20))


OPTIONS: list[dict[str, Any]] = [
    {"sync_on_write": False},
    {"access": "exclusive"},
    {"access": "read_only"},
    {"lock_timeout": 0.5},
    {"maintenance": "inline"},
    {"maintenance": "off"},
]
DATABASE_OPTIONS: list[dict[str, Any]] = [
    {"checkpoint_bytes": 1 << 20},
    {"sync_interval": 2.5},
    {"sync_interval": 0},
    {"create": False},
    {"auto_compact": 0.25},
    {"auto_compact": 0.75, "auto_compact_history": False},
    {"config": DbConfig(enable_compression=True, sync_on_write=False)},
]
STORE_ONLY = {"backend", "faiss_index_type", "faiss_nprobe"}
"""Options that Python's half of a store keeps as attributes."""

STORE_OPTIONS: list[dict[str, Any]] = [
    {"backend": "hnsw"},
    {"index_threshold": 77},
    {"target_recall": 0.9},
    {"faiss_index_type": "Flat"},
    {"faiss_nprobe": 3},
    {"name": "others", "dimensions": 2},
    {"metric": "euclidean"},
    {"metric": "dot_product"},
]


def test_options_that_are_tried_are_all_there_are() -> None:
    """A new option of opening has to be added to those that are kept when a handle travels."""
    for opened, tried in ((SynaDB, DATABASE_OPTIONS), (VectorStore, STORE_OPTIONS)):
        names = {name for options in OPTIONS + tried for name in options}
        # Without a GPU the last one is always the same.
        assert names == set(signature(opened).parameters) - {"path", "use_gpu"}


@pytest.mark.parametrize("options", OPTIONS + DATABASE_OPTIONS, ids=str)
def test_pickled_handle_keeps_its_options(path: Path, options: dict[str, Any]) -> None:
    SynaDB(path).close()
    with SynaDB(path, **options) as db:
        copy = pickle.loads(pickle.dumps(db))
        assert (copy.path, copy.stats()["access"]) == (db.path, db.stats()["access"])
        (of_db, of_copy) = (db.__getnewargs_ex__(), copy.__getnewargs_ex__())
        assert of_copy == of_db
        assert options.items() <= of_db[1].items()
        copy.close()


@pytest.mark.parametrize("options", OPTIONS + STORE_OPTIONS, ids=str)
def test_pickled_store_keeps_its_options(path: Path, options: dict[str, Any]) -> None:
    options = {"dimensions": 4, **options}
    VectorStore(path, **{k: options[k] for k in ("dimensions", "metric") if k in options}).close()
    with VectorStore(path, **options) as store:
        copy = pickle.loads(pickle.dumps(store))
        assert (copy.path, copy.stats()["access"]) == (store.path, store.stats()["access"])
        assert copy.__getnewargs_ex__() == store.__getnewargs_ex__()
        for name in options.keys() & {"dimensions", "metric", *STORE_ONLY}:
            assert getattr(copy, name) == options[name]
        kept = store.__getnewargs_ex__()[1]
        assert {k: v for k, v in options.items() if k in kept}.items() <= kept.items()
        assert kept.keys() >= options.keys() - {"dimensions", "metric", *STORE_ONLY}
        copy.close()


def test_pickled_handle_reads_what_the_first_wrote(path: Path) -> None:
    with SynaDB(path) as db, VectorStore(path, 4, name="points") as store:
        db.put("a", 1)
        store.insert("a", np.zeros(4))
        copies = pickle.loads(pickle.dumps((db, store)))
        assert (copies[0]["a"], len(copies[1]), copies[1].dimensions) == (1, 1, 4)
        for copy in copies:
            copy.close()


def test_closed_handle_is_not_pickled(path: Path) -> None:
    db = SynaDB(path)
    db.close()
    with pytest.raises(synadb.DatabaseClosedError):
        pickle.dumps(db)


def test_regression_children_of_children_have_no_limit(path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, sys, synadb
        db = synadb.SynaDB(sys.argv[1], sync_on_write=False)
        for depth in range(71):
            db.put("k", depth)
            child = os.fork() if depth < 70 else None
            if child:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
        db.close()
        """
    )
    succeed_as_a_tree(program, str(path))
    with SynaDB(path) as db:
        assert db.history("k") == [*range(71)]
        assert db.verify()["ok"]
