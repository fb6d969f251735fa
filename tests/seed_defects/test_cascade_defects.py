"""Defects 71 to 77, and those of 37 to 70 that every store must not have: the cascade index."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from defect_files import WIDTH, random_rows, run_python

import synadb
from synadb import CascadeIndex

DATA = Path(__file__).parents[2] / "data" / "demo" / "vectors.npz"

KILLED = """
import os, sys, numpy as np, synadb
rows = np.random.default_rng(7).standard_normal((1000, 8)).astype(np.float32)
index = synadb.CascadeIndex(sys.argv[1], 8)
index.insert_batch([str(n) for n in range(500)], rows[:500])
if sys.argv[2] == "saved":
    index.build_index()
    index.save()
for n in range(500, 600):
    index.insert(str(n), rows[n])
index.insert_batch([str(n) for n in range(600, 1000)], rows[600:])
os._exit(0)
"""

SAVES = """
import sys, numpy as np, synadb
rows = np.random.default_rng(7).standard_normal((400, 8)).astype(np.float32)
index = synadb.CascadeIndex(sys.argv[1], 8, preset="small")
index.insert_batch([str(n) for n in range(400)], rows)
index.build_index()
index.save()
print("saved", flush=True)
n = 0
while True:
    index.insert(str(n % 400), rows[n % 400])
    index.save()
    n += 1
"""


def numbers(count: int) -> list[str]:
    return [str(n) for n in range(count)]


def near(index: CascadeIndex, queries: np.ndarray, **how: Any) -> float:
    """Share of the ten nearest that searches find."""
    exact, _ = index.search_batch(queries, 10, exact=True, as_arrays=True)
    found, _ = index.search_batch(queries, 10, as_arrays=True, **how)
    pairs = zip(exact.tolist(), found.tolist(), strict=True)
    return sum(len({*a} & {*b}) for a, b in pairs) / exact.size


def test_defect_71_file_loads_after_a_duplicate_key_and_a_delete(path: Path) -> None:
    rows = random_rows(600, 16)
    with CascadeIndex(path, 16) as index:
        index.insert_batch(numbers(500), rows[:500])
        index.build_index()
        index.insert("7", rows[500])
        index.insert_batch(["8", "8"], rows[501:503])
        assert index.delete("9")
        index.save()
    for _ in range(2):
        with CascadeIndex(path) as index:
            assert (len(index), index.has_index) == (499, True)
            assert index["7"].tobytes() == rows[500].tobytes()
            assert index.search(rows[502], 1)[0].key == "8"
            found = [hit.key for hit in index.search(rows[9], 600)]
            assert sorted(found) == sorted(set(numbers(500)) - {"9"})
            index.build_index()


def test_defect_72_kill_while_it_saves_leaves_the_index_that_was_saved(path: Path) -> None:
    rows = random_rows(400)
    for pause in (0.0, 0.01, 0.02, 0.05, 0.1):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-c", SAVES, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "saved\n"
            time.sleep(pause)
            os.kill(writer.pid, signal.SIGKILL)
        with CascadeIndex(path) as index:
            stats = index.index_stats()
            assert stats is not None
            assert (stats["kind"], stats["rows"] + stats["tail"]) == ("cascade", 400)
            assert [hits[0].key for hits in index.search_batch(rows, 1)] == numbers(400)


@pytest.mark.parametrize("saved", ["saved", "never"])
def test_defect_73_killed_writer_loses_no_vector(path: Path, saved: str) -> None:
    run_python(KILLED, path, saved)
    rows = random_rows(1000)
    with CascadeIndex(path, WIDTH) as index:
        assert (len(index), index.has_index) == (1000, saved == "saved")
        assert [hits[0].key for hits in index.search_batch(rows, 1)] == numbers(1000)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_defect_74_nan_in_a_batch_is_refused_before_anything_is_stored(
    path: Path, bad: float
) -> None:
    rows = random_rows(50)
    rows[30, 3] = bad
    with CascadeIndex(path, WIDTH) as index:
        with pytest.raises(synadb.InvalidVectorError, match=r"30.*component 3"):
            index.insert_batch(numbers(50), rows)
        for call in (lambda: index.insert("k", rows[30]), lambda: index.search(rows[30])):
            with pytest.raises(synadb.InvalidVectorError):
                call()
        assert len(index) == 0
        index.insert_batch(numbers(30), rows[:30])
        assert index.search(rows[3], 1)[0].key == "3"


def test_defect_75_names_of_files_never_collide(tmp_path: Path) -> None:
    files = ["index.v1", "index.v2", "index", "index.cascade"]
    for name in files:
        with CascadeIndex(tmp_path / name, WIDTH) as index:
            assert len(index) == 0
            index.insert(name, random_rows(1)[0])
            index.build_index()
    for name in files:
        with CascadeIndex(tmp_path / name) as index:
            assert index.keys() == [name]


@pytest.mark.parametrize("built", [True, False])
def test_defect_76_scores_are_those_of_the_metric_and_a_mismatch_raises(
    path: Path, built: bool
) -> None:
    with CascadeIndex(path, 2, metric="euclidean") as index:
        index.insert_batch(["far", "near"], [[3.0, 4.0], [0.0, 2.0]])
        if built:
            index.build_index()
        found = [(hit.key, hit.score) for hit in index.search([0.0, 0.0])]
        assert found == [("near", 2.0), ("far", 5.0)]
    with pytest.raises(synadb.ConfigMismatchError, match=r"2 dim.*3 dim"):
        CascadeIndex(path, 3)
    with pytest.raises(synadb.ConfigMismatchError, match=r"euclidean.*dot_product"):
        CascadeIndex(path, metric="dot_product")


def test_defect_77_repeated_queries_have_one_answer_and_loading_builds_nothing(path: Path) -> None:
    with np.load(DATA) as data:
        rows = data["passages_i8"].astype(np.float32)
        questions = data["questions_f16"].astype(np.float32)[:200]
    with CascadeIndex(path, 384) as index:
        index.insert_batch(numbers(2500), rows)
        index.build_index(threads=2)
        assert near(index, questions) >= 0.95
        answers, stats = index.search_batch(questions), index.index_stats()
        for threads in (1, 2):
            assert index.search_batch(questions, threads=threads) == answers
        assert [index.search(query) for query in questions[:50]] == answers[:50]
    checkpoint = path.with_name(path.name + "-ckpt").read_bytes()
    with CascadeIndex(path, access="read_only") as index:
        assert index.index_stats() == stats
        assert index.search_batch(questions) == answers
    assert path.with_name(path.name + "-ckpt").read_bytes() == checkpoint


@pytest.mark.parametrize("clusters", [1, 40])
def test_defect_77_recall_of_gaussian_and_clustered_vectors(path: Path, clusters: int) -> None:
    random = np.random.default_rng(2)
    centres = random.standard_normal((clusters, 64)) * (3 if clusters > 1 else 0)
    rows = centres[random.integers(0, clusters, 5_100)] + random.standard_normal((5_100, 64))
    with CascadeIndex(path, 64, preset="small") as index:
        index.insert_batch(numbers(5_000), rows[:5_000])
        index.build_index()
        assert near(index, rows[5_000:]) >= 0.9
        answers = index.search_batch(rows[5_000:], 50, num_probes=1, ef_search=1)
        assert {len(hits) for hits in answers} == {50}
