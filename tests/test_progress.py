"""Progress of long loops, with tqdm and without."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import synadb
from synadb import HybridVectorStore, _progress

if TYPE_CHECKING:
    from pathlib import Path


def test_items_pass_through_with_tqdm() -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    assert list(_progress.progress("abc", 3, "letters")) == ["a", "b", "c"]


def test_items_pass_through_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(_progress.progress(range(3), 3, "numbers")) == [0, 1, 2]


def test_a_short_loop_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_tqdm", lambda: None)
    list(_progress.progress(range(100), 100, "numbers"))
    assert capsys.readouterr().err == ""


def test_a_long_loop_shows_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_tqdm", lambda: None)
    clock = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    list(_progress.progress(range(3), 3, "numbers"))
    assert "numbers: 3/3 (1/s)\n" in capsys.readouterr().err


def test_bar_of_a_call_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    monkeypatch.setattr(_progress, "QUIET_S", 0.0)
    monkeypatch.setattr(_progress, "INTERVAL_S", 0.0)
    with _progress.reporting(True, "copy") as report:
        assert report is not None
        report(1000, 3000)
        report(3000, 3000)
    assert "copy:" in capsys.readouterr().err


def test_line_of_a_call_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_tqdm", lambda: None)
    clock = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with _progress.reporting(True, "copy") as report:
        assert report is not None
        report(10, 30)
        report(30, 30)
    assert "copy: 30/30 (15/s)\n" in capsys.readouterr().err


def test_a_function_is_passed_on() -> None:
    def function(_done: int, _total: int) -> None:
        pass

    with _progress.reporting(function, "copy") as report:
        assert report is function
    with _progress.reporting(None, "copy") as report:
        assert report is None


STORES = (
    "VectorStore",
    "MmapVectorStore",
    "GravityWellIndex",
    "CascadeIndex",
    "HybridVectorStore",
)


def filled(name: str, folder: Path) -> Any:
    """An open store of some vectors; of a hybrid one both tables have some."""
    rows = np.random.default_rng(3).standard_normal((2_000, 16), dtype=np.float32)
    keys = [str(n) for n in range(2_000)]
    if name == "HybridVectorStore":
        hybrid = HybridVectorStore(folder / "hot", folder / "cold", 16)
        hybrid.ingest_batch(keys[:1_000], rows[:1_000])
        hybrid.promote_to_cold()
        hybrid.ingest_batch(keys[1_000:], rows[1_000:])
        return hybrid
    store = getattr(synadb, name)(folder / "a.db", 16)
    store.insert_batch(keys, rows)
    return store


def labels(name: str) -> list[str]:
    if name == "HybridVectorStore":
        return ["build hot index", "build cold index"]
    return ["build index"]


def show_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has what takes no second shown too."""
    monkeypatch.setattr(_progress, "QUIET_S", 0.0)
    monkeypatch.setattr(_progress, "INTERVAL_S", 0.0)


@pytest.mark.parametrize("name", STORES)
def test_build_of_an_index_shows_its_bar_on_every_store(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    show_at_once(monkeypatch)
    with filled(name, tmp_path) as store:
        store.build_index(progress=True)
    shown = capsys.readouterr().err
    for label in labels(name):
        # It is drawn at the beginning, too: without any report it stays where it is.
        assert re.search(rf"{label}: +[1-9]\d*%", shown), shown


@pytest.mark.parametrize("name", STORES)
def test_build_of_an_index_shows_plain_lines_on_every_store(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_tqdm", lambda: None)
    show_at_once(monkeypatch)
    with filled(name, tmp_path) as store:
        for quiet in (None, False):
            store.build_index(progress=quiet)
            assert capsys.readouterr().err == ""
        store.build_index(progress=True)
    shown = capsys.readouterr().err
    for label in labels(name):
        assert len(re.findall(rf"{label}: 1,000/1,000 \([\d,]+/s\)\n", shown)) == 1, shown
