"""docs/safety.md names for each promise the test that would fail: every one of them exists."""

from __future__ import annotations

import re

import pytest
from repo_files import ROOT

HEADING = "## Each promise, and the tests that fail without it"
FOLDERS = {"R": "rust/synadb/tests", "C": "rust/synadb/src/crash_tests", "T": "tests"}
NAME = re.compile(r"`([^`]+)::(\w+)`")


def rows() -> list[list[str]]:
    """The cells of the tables' rows, heads left out."""
    text = (ROOT / "docs" / "safety.md").read_text()
    section = text.split(HEADING + "\n", 1)[1].split("\n## ", 1)[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [row for row in cells if row[-1] != "tests" and set(row[0]) != {"-"}]


def file_of(short: str) -> str:
    """The file that a name in the tables stands for."""
    first, _, rest = short.partition("/")
    return f"{FOLDERS[first]}/{rest}" if first in FOLDERS else short


def is_test(file: str, name: str) -> bool:
    """Whether the file has a test function of that name, and is run."""
    path = ROOT / file
    if not path.is_file():
        return False
    text = path.read_text()
    if path.suffix == ".py":
        starts = path.name.startswith("test_") and name.startswith("test_")
        return starts and re.search(rf"^def {name}\(", text, re.MULTILINE) is not None
    # An attribute of the same function stands between two of them: comments and others may too.
    return re.search(rf"#\[test\]\n(?:\s*(?:#\[|//)[^\n]*\n)*\s*fn {name}\(", text) is not None


def test_there_are_promises_of_each_kind() -> None:
    kinds = {row[0] for row in rows()}
    assert kinds == {"sync", "process", "any", "shared", "exclusive", "read_only"}
    assert len(rows()) > 30


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1])
def test_tests_of_a_promise_exist(row: list[str]) -> None:
    assert len(row) == 3
    _, promise, tests = row
    found = NAME.findall(tests)
    assert promise
    assert found
    assert NAME.sub("", tests).split() == [], "nothing but names of tests"
    assert [f"{file}::{name}" for file, name in found if not is_test(file_of(file), name)] == []


def test_names_that_do_not_exist_are_noticed() -> None:
    assert not is_test("tests/test_sharing.py", "test_that_nobody_wrote")
    assert not is_test("tests/test_sharing.py", "peer")
    assert not is_test("rust/synadb/tests/usage.rs", "place")
    assert not is_test("tests/test_nothing.py", "test_nothing")
