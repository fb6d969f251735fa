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
