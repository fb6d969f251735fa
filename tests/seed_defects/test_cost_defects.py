"""Defects 17 to 21: what reading, opening and writing cost, who waits for whom, deletes.

Costs are asserted by structure: bytes, records, memory and progress, never by time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from defect_files import flip_stored, left_by_a_killed_writer, run_python
from read_log import FRAMES_START

import synadb
from synadb import SynaDB

PEAK = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10"


@pytest.mark.parametrize("how", ["get", "get_float", "exists"])
def test_defect_17_get_reads_the_newest_record_alone(path: Path, how: str) -> None:
    first = b"the first one of many"
    with SynaDB(path, sync_on_write=False) as db:
        db.put("k", first)
        db.append_many("k", np.arange(1_000.0))
        for n in range(1000):
            db.put_float("k", float(n))
        db.checkpoint()
    flip_stored(path, first)
    with SynaDB(path) as db:
        with pytest.raises(synadb.CorruptionError):
            db.history("k")
        assert getattr(db, how)("k") == {"exists": True}.get(how, 999.0)


def test_defect_17_floats_take_eight_bytes_each(path: Path) -> None:
    values = np.random.default_rng(1).standard_normal(2_000_000)
    with SynaDB(path, sync_on_write=False) as db:
        db.append_many("k", values)
        assert db.stats()["log_bytes"] < values.nbytes + (64 << 10)
        assert db.get_history_tensor("k").tobytes() == values.tobytes()


MANY_KEYS = 300_000


@pytest.fixture(scope="module")
def many_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed file of many small keys."""
    path = tmp_path_factory.mktemp("many") / "a.db"
    with SynaDB(path, sync_on_write=False) as db:
        db.put_many({f"key/{n}": n for n in range(MANY_KEYS)})
    return path


def test_defect_18_open_reads_the_checkpoint_and_no_record(many_keys: Path) -> None:
    with SynaDB(many_keys) as db:
        report = db.recovery()
        assert (report["commits_replayed"], report["replayed_from"]) == (0, report["tail"])
        assert (len(db), db["key/77777"]) == (MANY_KEYS, 77_777)


def test_defect_18_open_reads_only_what_is_behind_the_checkpoint(path: Path) -> None:
    body = (
        "db.put_many({f'k{n}': n for n in range(1000)})\n"
        "db.checkpoint()\n"
        "for n in range(7):\n"
        "    db.put('later', n)"
    )
    left_by_a_killed_writer(path, body)
    with SynaDB(path) as db:
        report = db.recovery()
        assert (report["commits_replayed"], report["replayed_from"] > FRAMES_START) == (7, True)
        assert (len(db), db["later"]) == (1001, 6)


def test_defect_18_memory_of_an_open_does_not_grow_with_the_keys(many_keys: Path) -> None:
    code = (
        "import resource, sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1] + '.small') as db:\n"
        "    db.put('k', 1)\n"
        f"before = {PEAK}\n"
        "with synadb.SynaDB(sys.argv[1]) as db:\n"
        "    assert db['key/1'] == 1\n"
        f"print(({PEAK}) - before)\n"
    )
    assert int(run_python(code, many_keys)) < 100 * MANY_KEYS


READS = "int(next(l for l in open('/proc/self/io') if 'syscr' in l).split()[1])"


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="counts reads by /proc/self/io")  # noqa: PTH110
def test_defect_18_recovery_of_a_long_tear_reads_it_in_large_pieces(path: Path) -> None:
    left_by_a_killed_writer(path, "db.put('k', 1)")
    with SynaDB(path, access="read_only") as db:
        tail = db.recovery()["tail"]
    content = path.read_bytes()[:tail]
    path.write_bytes(content + b"\xff" * (8 << 20))
    code = (
        "import sys, synadb\n"
        f"before = {READS}\n"
        "with synadb.SynaDB(sys.argv[1]) as db:\n"
        f"    print(({READS}) - before, db.recovery()['bytes_dropped'], db['k'])\n"
    )
    reads, dropped, value = map(int, run_python(code, path).split())
    assert (dropped, value, reads < 500) == (8 << 20, 1, True)


def test_defect_19_memory_does_not_grow_with_the_bytes_of_values(path: Path) -> None:
    code = (
        "import os, resource, sys, synadb\n"
        "blob = os.urandom(1 << 20)\n"
        "with synadb.SynaDB(sys.argv[1], sync_on_write=False) as db:\n"
        "    db.put('warm', blob)\n"
        f"    before = {PEAK}\n"
        "    for n in range(200):\n"
        "        db.put(f'k{n}', blob)\n"
        f"    print(({PEAK}) - before)\n"
    )
    assert int(run_python(code, path)) < 50 << 20


def most_done_during(
    act: Callable[[], object], meanwhile: Callable[[], object], enough: int
) -> int:
    """How often `meanwhile` was done while `act` ran: the first of some attempts that is enough."""
    most = 0
    for _ in range(20):
        began, ended = threading.Event(), threading.Event()

        def run(began: threading.Event = began, ended: threading.Event = ended) -> None:
            began.set()
            try:
                act()
            finally:
                ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        began.wait()
        done = 0
        while not ended.is_set():
            meanwhile()
            done += 1
        thread.join()
        most = max(most, done)
        if most >= enough:
            break
    return most


SHORT_ACTS = 500
"""More gets or puts than fit in before a long act has begun, or after it has ended."""


@pytest.fixture
def large(tmp_path: Path) -> SynaDB:
    """An open file with a long history."""
    with SynaDB(tmp_path / "large.db", sync_on_write=False) as database:
        database.append_many("h", np.arange(3_000_000.0))
        for n in range(1000):
            database.put("k", n)
        yield database


def test_defect_20_reading_a_history_lets_other_files_be_read(db: SynaDB, large: SynaDB) -> None:
    db.put("k", 1)
    done = most_done_during(lambda: large.get_history_tensor("h"), lambda: db.get("k"), SHORT_ACTS)
    assert done >= SHORT_ACTS


def test_defect_20_reading_a_history_lets_its_own_file_be_read(large: SynaDB) -> None:
    done = most_done_during(
        lambda: large.get_history_tensor("h"), lambda: large.get("k"), SHORT_ACTS
    )
    assert done >= SHORT_ACTS


def test_defect_20_reading_a_history_lets_its_own_file_be_written(large: SynaDB) -> None:
    done = most_done_during(
        lambda: large.get_history_tensor("h"), lambda: large.put("k", 1), SHORT_ACTS
    )
    assert done >= SHORT_ACTS


def test_defect_20_compaction_lets_its_own_file_be_read(large: SynaDB) -> None:
    large.put_many({f"many/{n}": n for n in range(100_000)})
    done = most_done_during(large.compact, lambda: large.get("many/5"), SHORT_ACTS)
    assert done >= SHORT_ACTS


def test_defect_20_compaction_lets_other_files_be_written(db: SynaDB, large: SynaDB) -> None:
    large.put_many({f"many/{n}": n for n in range(100_000)})
    done = most_done_during(large.compact, lambda: db.put("k", 1), SHORT_ACTS)
    assert done >= SHORT_ACTS


def test_defect_20_opening_and_closing_let_other_files_be_opened(
    many_keys: Path, path: Path
) -> None:
    SynaDB(path).close()

    def replay_and_save() -> None:
        # Several times: one takes no longer than some forty openings.
        for _ in range(5):
            many_keys.with_name("a.db-ckpt").unlink(missing_ok=True)
            SynaDB(many_keys).close()

    def open_another() -> None:
        SynaDB(path, access="read_only").close()

    assert most_done_during(replay_and_save, open_another, 50) >= 50


@pytest.mark.timeout(60)
def test_regression_compaction_reads_a_frame_once_for_all_of_its_records(many_keys: Path) -> None:
    copy = many_keys.with_name("copy.db")
    copy.write_bytes(many_keys.read_bytes())
    with SynaDB(copy) as db:
        db.compact()
        assert (len(db), db["key/77777"]) == (MANY_KEYS, 77_777)


def test_defect_21_history_is_empty_after_a_delete(db: SynaDB) -> None:
    db.append_many("h", [1.0, 2.0])
    db.put("h", "text")
    assert db.delete("h") is True
    assert (db.history("h"), db.get_history_tensor("h").size, "h" in db) == ([], 0, False)


def test_defect_21_history_begins_anew_after_a_delete(path: Path) -> None:
    with SynaDB(path) as db:
        db.append_many("h", np.arange(20.0))
        db.delete("h")
        db.put_float("h", 3.0)
        assert (db.history("h"), db.get_history_tensor("h").tolist()) == ([3.0], [3.0])
    with SynaDB(path) as db:
        assert (db.history("h"), db.get_history_tensor("h").tolist()) == ([3.0], [3.0])


@pytest.mark.parametrize("key", ["absent", "deleted"])
def test_defect_21_deleting_nothing_writes_nothing_and_says_so(path: Path, key: str) -> None:
    with SynaDB(path) as db:
        db.put_int("deleted", 1)
        db.delete("deleted")
        before = path.read_bytes()
        assert db.delete(key) is False
        with db.batch() as batch:
            batch.delete(key)
        assert path.read_bytes() == before
