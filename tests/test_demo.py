"""The main job runs to its end and says what it claims; README's Python block runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from synadb import SynaDB, VectorStore
from synadb._demo_writers import _check, two_writers
from synadb.demo import Corpus

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "demo"


ALL_THERE = r"every commit of both whole and in order: ([\d,]+) texts and vectors"


def count(text: str) -> int:
    return int(text.replace(",", ""))


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "synadb.demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_main_job_answers_its_questions(tmp_path: Path) -> None:
    done = run_demo("--data", str(DATA), "--path", str(tmp_path / "demo.db"))
    assert done.returncode == 0, done.stderr
    rate = re.search(r"over 1,000 questions: R@1 (\S+), R@10 (\S+)", done.stdout)
    assert rate
    assert float(rate[1]) > 0.6
    assert float(rate[2]) > 0.9
    recall = re.search(r"recall@10 against exact search (\S+), tuned to 0.99", done.stdout)
    assert recall
    assert 0.97 <= float(recall[1]) <= 1
    assert re.search(r"killed after [1-9][\d,]* acknowledged puts", done.stdout)
    assert "missing 0" in done.stdout
    assert "the last with 20,000 texts" in done.stdout
    writers = re.findall(
        r"^writer (\d): ([\d,]+) commits in \S+ s \([\d,]+/s\)$", done.stdout, re.M
    )
    assert [number for number, _ in writers] == ["0", "1"]
    (one, other), both = (
        (count(commits) for _, commits in writers),
        re.search(ALL_THERE, done.stdout),
    )
    assert both
    assert one == other >= 2000
    assert count(both[1]) == one + other
    turns = re.search(r"one wrote after the other ([\d,]+) times", done.stdout)
    assert turns
    assert count(turns[1]) >= 2
    assert "the main job is done" in done.stdout


def test_the_main_job_names_missing_data(tmp_path: Path) -> None:
    done = run_demo("--data", str(tmp_path))
    assert done.returncode == 2
    assert "passages.jsonl.gz is missing" in done.stderr


def test_the_main_job_keeps_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    path.write_bytes(b"mine")
    done = run_demo("--data", str(DATA), "--path", str(path))
    assert done.returncode == 2
    assert path.read_bytes() == b"mine"


BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_python_block_of_the_readme_runs(tmp_path: Path) -> None:
    (block,) = BLOCK.findall((ROOT / "README.md").read_text())
    command = [sys.executable, "-c", block]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that two writers have filled."""
    path = tmp_path_factory.mktemp("written") / "two.db"
    two_writers(path, DATA, Corpus(DATA))
    return path


SPOILED: dict[str, Callable[[SynaDB, VectorStore], object]] = {
    "a text of another": lambda db, _: db.put("writer/1/7", "not this"),
    "a text that is gone": lambda db, _: db.delete("writer/0/0"),
    "a vector that is gone": lambda _, store: store.delete("writer/1/3"),
    "a commit too many": lambda db, _: db.put("writers/log", 7),
    "a log that is gone": lambda db, _: db.delete("writers/log"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_the_check_of_two_writers_notices(written: Path, tmp_path: Path, how: str) -> None:
    path = tmp_path / "spoiled.db"
    with SynaDB(written) as whole:
        whole.backup(path)
    with SynaDB(path) as db, VectorStore(db, name="vector:writers/") as store:
        SPOILED[how](db, store)
    with pytest.raises(SystemExit, match="not true of two writers"):
        _check(path, Corpus(DATA), 1.0)
