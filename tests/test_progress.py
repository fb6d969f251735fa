"""Progress of long loops, with tqdm and without."""

from __future__ import annotations

import sys

import pytest

from synadb import _progress


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
