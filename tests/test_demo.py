"""The main job runs to its end and says what it claims; README's Python block runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data" / "demo"


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
    assert re.search(r"killed after [1-9][\d,]* acknowledged puts", done.stdout)
    assert "missing 0" in done.stdout
    assert "the last with 20,000 texts" in done.stdout
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
