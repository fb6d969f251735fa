"""A holder that is stopped, and growth that the system refuses half way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import synadb
from synadb import SynaDB

HOLDER = """
import sys, synadb
db = synadb.SynaDB(sys.argv[1], sync_on_write=False, lock_timeout=60)
for n in range(int(sys.argv[2])):
    db.put("holder", n)
    if n == 1000:
        print("busy", flush=True)
"""
WAITERS = 4


def test_waiters_are_told_who_is_stopped_and_go_on_after_it(path: Path) -> None:
    count = 200_000
    command = [sys.executable, "-c", HOLDER, str(path), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "busy\n"
        # Stopped in the middle of its turn, sooner or later.
        told: list[str] = []
        with SynaDB(path, sync_on_write=False, lock_timeout=0.2) as impatient:
            put = 0
            while not told:
                os.kill(holder.pid, signal.SIGSTOP)
                try:
                    impatient.put("impatient", put)
                    put += 1
                except synadb.DatabaseLockedError as error:
                    told.append(str(error))
                finally:
                    if not told:
                        os.kill(holder.pid, signal.SIGCONT)
            waiters = [start_waiter(path) for _ in range(WAITERS)]
            told += [waiter.communicate(timeout=60)[0] for waiter in waiters]
            os.kill(holder.pid, signal.SIGCONT)
            patient = SynaDB(path, lock_timeout=60)
            patient.put("patient", 1)
            assert holder.wait(60) == 0
            for message in told:
                assert re.search(rf"\b{holder.pid}\b", message), message
            assert impatient.history("holder") == list(range(count))
            assert impatient.history("impatient") == list(range(put))
            assert (patient["patient"], patient.verify()["ok"]) == (1, True)
            assert "waiter" not in patient, "who gave up has written nothing"
            patient.close()


def start_waiter(path: Path) -> subprocess.Popen[str]:
    """A process that waits a moment for the lock, and prints what it is told."""
    code = (
        "import sys, synadb\n"
        "db = synadb.SynaDB(sys.argv[1], lock_timeout=0.3)\n"
        "try:\n"
        "    db.put('waiter', 1)\n"
        "except synadb.DatabaseLockedError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


LIMITED = """
import json, resource, sys, synadb
db = synadb.SynaDB(sys.argv[1], sync_on_write=False)
done, refused = [], 0
for round in range(3):
    most = 100_000 * (round + 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    failed = 0
    while failed < 3:
        try:
            db.put("k", bytes([len(done) % 256]) * (500 + 700 * (len(done) % 9)))
        except (OSError, synadb.SynaError) as error:
            failed, message = failed + 1, f"{type(error).__name__}: {error}"
            continue
        done.append(len(done))
    assert len(db.history("k")) == len(done)
    with_large = 0
    try:
        db.put("large", bytes(5 << 20))
        with_large = 1
    except (OSError, synadb.SynaError):
        pass
    assert not with_large and "large" not in db
    try:
        db.checkpoint()
    except (OSError, synadb.SynaError):
        pass
    assert db.stats()["file_bytes"] <= most
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
db.put("after", 1)
print(json.dumps([len(done), message]), flush=True)
"""


def test_growth_beyond_a_limit_changes_nothing_and_goes_on_without_it(path: Path) -> None:
    with SynaDB(path) as beside:
        command = [sys.executable, "-c", LIMITED, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        number, message = re.findall(r'\[(\d+), "(.*)"\]', done.stdout)[0]
        assert "grow the log" in message or "disk" in message.lower(), message
        sizes = [len(value) for value in beside.history("k")]
        assert sizes == [500 + 700 * (n % 9) for n in range(int(number))]
        assert (beside["after"], beside.verify()["ok"]) == (1, True)
    with SynaDB(path) as db:
        assert (db.recovery()["torn"], len(db.history("k"))) == (False, int(number))


def test_a_transaction_that_others_wait_for_costs_no_processor_time(path: Path) -> None:
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(1000):
            db.put("a", n)
        with db.transaction() as transaction:
            transaction.put("a", "held")
            before = time.process_time()
            told, _ = start_waiter(path).communicate(timeout=60)
            spent = time.process_time() - before
    assert str(os.getpid()) in told
    assert spent < 0.15, "half of what the other has waited: somebody spins"
