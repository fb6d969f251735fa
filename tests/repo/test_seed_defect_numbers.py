"""Every defect of the original that this version must not have is a test that names its number."""

from __future__ import annotations

import re

from repo_files import ROOT

COVERED = {
    *range(1, 6),
    9,
    *range(11, 14),
    *range(15, 28),
    29,
    30,
    32,
    *range(34, 82),
}
"""5 in its exclusive half, 16 without `keep_history`, 17 without packed runs."""

NAME = re.compile(r"^def test_defect_(\d\d)_\w+\(", re.MULTILINE)


def numbers_of_tests() -> set[int]:
    """The numbers that the names of tests say."""
    tests = (ROOT / "tests" / "seed_defects").glob("test_*.py")
    return {int(number) for path in tests for number in NAME.findall(path.read_text())}


def test_every_defect_has_a_test_that_names_its_number() -> None:
    assert numbers_of_tests() >= COVERED


def test_every_number_that_a_test_names_is_listed() -> None:
    assert numbers_of_tests() <= COVERED
