"""Arithmetic and harness of the vector benchmark, on the vectors of the demo; no speed matters."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "python" / "vectors.py"
sys.path.insert(0, str(SCRIPT.parent))

from vectorbench import child, curves, fleet, passing, peers, rows_curves, sets, table  # noqa: E402
from vectorbench.adapter import Configuration, steps  # noqa: E402

K = 10


def demo_rows() -> tuple[np.ndarray, np.ndarray]:
    """Passages and some questions of the demo."""
    rows, queries = sets.demo()
    return rows, queries[:40]


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_exact_neighbours_are_those_of_brute_force(metric: str) -> None:
    rows, queries = demo_rows()
    ids, distances = sets.exact(rows, queries, metric, 20)
    wide = rows.astype(np.float64)
    for query, found, near in zip(queries.astype(np.float64), ids, distances, strict=True):
        every = np.linalg.norm(wide - query, axis=1) if metric == "l2" else 1 - wide @ query
        order = np.argsort(every, kind="stable")[:20]
        assert found.tolist() == order.tolist()
        assert np.allclose(near, every[order])


def test_recall_counts_what_was_found_and_what_is_as_near_as_the_last() -> None:
    truth = np.array([[3, 1, 4, 5]])
    distances = np.array([[0.1, 0.2, 0.3, 0.3]])
    answers = {(3, 1, 4): 1.0, (3, 1, 5): 1.0, (4, 5, 9): 2 / 3, (3, 3, 3): 1 / 3, (-1, 8, 9): 0.0}
    for answer, expected in answers.items():
        found = sets.recall(np.array([answer]), truth, distances, 3)
        assert found == pytest.approx(expected)


def test_wide_rows_are_four_rows_side_by_side() -> None:
    rows, _ = demo_rows()
    wide = sets.side_by_side(rows[:11], 4)
    assert wide.shape == (2, 4 * 384)
    assert np.allclose(wide[1] * 2, rows[4:8].ravel(), atol=1e-6)


def test_pairs_are_averages_of_two_different_rows_and_the_same_each_time() -> None:
    rows, _ = demo_rows()
    made = sets.pairs(rows, 30)
    assert np.array_equal(made, sets.pairs(rows, 30))
    products = np.sort(made @ rows.T, axis=1)[:, -2:]
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert (products < 1 - 1e-4).all()


@pytest.mark.parametrize("share", [10, 1])
@pytest.mark.parametrize("way", ["reused", "prefix"])
def test_neighbours_behind_a_filter_are_those_among_its_rows(
    share: int, way: str, tmp_path: Path
) -> None:
    rows, queries = demo_rows()
    sets.keep(tmp_path / "set", rows, queries, "ip")
    data = sets.opened(tmp_path / "set", "demo", "ip")
    case = passing.Case(share, way)
    found = passing.among(data, case)
    groups = passing.group_of(passing.buckets(len(rows)), share)
    assert groups.max() == 100 // share - 1
    for number, query in enumerate(queries):
        asked = number % (100 // share) if way == "prefix" else passing.REUSED[share]
        allowed = np.flatnonzero(groups == asked)
        nearest = allowed[np.argsort(-(rows[allowed] @ query), kind="stable")[:K]]
        assert set(found.truth[number, :K].tolist()) - {-1} == set(nearest.tolist())
        if way == "prefix":
            assert np.array_equal(found.queries[number][0], query)
            assert found.queries[number][1] == asked
    again = passing.among(data, case)
    assert np.array_equal(again.truth, found.truth)


def test_rates_are_taken_over_queries_of_the_whole_set() -> None:
    rows = np.arange(1000)
    assert child.spread(rows, 4).tolist() == [0, 333, 666, 999]
    assert child.spread(rows, 5000).tolist() == rows.tolist()
    assert child.spread([7, 8, 9], 2) == [7, 9]


def test_rates_are_interpolated_between_points_of_the_front() -> None:
    points = [
        curves.Point(0.9, 1000.0, "a"),
        curves.Point(0.99, 10.0, "b"),
        curves.Point(0.95, 5.0, "slower and worse than b"),
    ]
    assert curves.rate_at(points, 1 - 10**-1.5) == pytest.approx(100.0)
    assert curves.rate_at(points, 0.99) == pytest.approx(10.0)
    assert curves.rate_at(points, 0.5) == 1000.0
    assert curves.rate_at(points, 0.991) is None
    assert curves.needed(points, [0.95]) == {"a", "b"}
    assert curves.needed(points, [0.995]) == {"a"}


class Told:
    """Stands in for a child: recall rises with the setting, the first call is the fastest."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def ask(self, do: str, settings: list[dict[str, int]], **more: object) -> dict[str, object]:
        assert do == "sweep"
        self.asked.append([setting["ef"] for setting in settings])
        rate = 1000.0 if len(self.asked) == 1 else 100.0
        points = []
        for setting in settings:
            point = {"settings": setting, "per_cpu_s": rate / setting["ef"], "per_s": 0.0}
            points.append(point | ({"recall": 1 - 1 / setting["ef"]} if more["recall"] else {}))
        return {"points": points}


def test_nothing_is_read_between_two_indexes() -> None:
    points = [
        curves.Point(0.9, 1000.0, "a low", "a"),
        curves.Point(0.99, 10.0, "a high", "a"),
        curves.Point(1.0, 5.0, "b", "b"),
        curves.Point(1.0, 1.0, "c", "c"),
    ]
    assert curves.rate_at(points, 0.99) == pytest.approx(10.0)
    assert curves.rate_at(points, 0.995) == 5.0
    assert curves.needed(points, [0.999]) == {"a low", "b"}


def test_every_setting_is_tried_before_the_rounds_and_does_not_count() -> None:
    told = Told()
    configuration = Configuration("M16", {"m": 16}, steps("ef", (2, 4, 8, 16, 128)))
    held = fleet.Held(peers.CONTESTANTS["hnswlib"], configuration, ROOT, told)  # type: ignore
    all_of_it = fleet.Fleet.__new__(fleet.Fleet)
    all_of_it.held, all_of_it.failed, all_of_it.tried = [held], {}, {}
    all_of_it.targets = lambda: curves.TARGETS
    all_of_it.data = sets.VectorSet("none", "ip", ROOT, *[np.empty((0, 0))] * 4)  # type: ignore
    rounds = all_of_it.rounds(2, 0.1, False, "cpu")
    assert told.asked == [[2, 4, 8, 16, 128], [2, 8, 16, 128], [2, 8, 16, 128]]
    assert [point["rate"] for point in all_of_it.tried["hnswlib M16"]] == [
        500,
        250,
        125,
        62.5,
        7.8125,
    ]
    rates = rows_curves.rates_of(rounds, ["hnswlib"])
    assert rates["hnswlib"][0.90] is not None
    assert rates["hnswlib"][0.90].median < 100 / 8
    all_of_it.rounds(1, 0.1, True, "cpu")
    assert told.asked[3] == [2, 4, 8, 16, 128], "another mode has other best settings"


def test_rates_over_rounds_have_a_median_and_a_spread() -> None:
    rounds = [[curves.Point(1.0, rate)] for rate in (90.0, 100.0, 120.0)]
    found = curves.over_rounds(rounds, 0.99)
    assert found is not None
    assert (found.median, found.spread) == (100.0, 0.15)
    assert curves.over_rounds([*rounds, [curves.Point(0.5, 1.0)]], 0.99) is None


def test_above_is_by_more_than_the_spread_of_both() -> None:
    ours = curves.Rate((100.0, 105.0, 110.0))
    peer = curves.Rate((98.0, 100.0, 102.0))
    row = rows_curves.ratio_row("rate", ours, ("peer", peer), 1.0, None)
    assert row.measured == pytest.approx(1.05)
    assert row.floor == pytest.approx(1 + 5 / 105 + 2 / 100)
    assert row.verdict == "MISSED"
    assert rows_curves.ratio_row("rate", ours, ("peer", peer), 0.8, 1.0).verdict == "ok"
    assert rows_curves.ratio_row("rate", None, ("peer", peer), 0.8, 1.0).verdict == "MISSED"
    assert rows_curves.ratio_row("rate", ours, None, 0.8, 1.0).verdict == "not compared"


def test_a_limit_from_above_is_met_from_below() -> None:
    assert table.Row("time", 4.9, "ms", 5.0, at_most=True).verdict == "ok"
    assert table.Row("time", 5.1, "ms", 5.0, at_most=True).verdict == "MISSED"
    assert table.Row("time", 5.1, "ms").verdict == "stated"


def test_every_peer_that_is_not_there_is_named(tmp_path: Path, monkeypatch: object) -> None:
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    monkeypatch.setattr(peers, "PACKAGES", tmp_path)
    (tmp_path / "vsag.missing").write_text("no wheel for this machine\n")
    found, absent = peers.present(peers.LIBRARIES)
    assert found == ["synadb", "faiss"]
    assert set(found) | set(absent) == {*peers.LIBRARIES, *peers.UNAVAILABLE}
    assert absent["vsag"] == "no wheel for this machine"
    assert "--vector-peers" in absent["hnswlib"]


def bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """A quick run on the demo's vectors, with what the environment has."""
    command = [sys.executable, str(SCRIPT), "--quick", "--only", "demo", "--out", str(folder)]
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=240
    )


def test_a_quick_run_prints_and_keeps_curves_beside_a_peer(tmp_path: Path) -> None:
    done = bench(tmp_path, "--rows", "curves", "--peers", "synadb,faiss")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "not measured: hnswlib: left out by --peers" in done.stdout
    assert "not measured: glass" in done.stdout
    record = json.loads((tmp_path / "vectors-curves-demo.json").read_text())
    points = record["batch"]["points"]
    assert {"synadb hnsw", "synadb gravity_well", "synadb flat"} <= set(points)
    assert points["synadb flat"][0]["recall"] < 0.99 < points["synadb flat"][-1]["recall"]
    recalls = [point["recall"] for point in points["synadb gravity_well"]]
    assert recalls[0] < 0.95 < recalls[-1]
    for row in record["rows"]:
        assert row["unit"] == "x faiss", row
    for picture in tmp_path.glob("*.svg"):
        drawn = ElementTree.fromstring(picture.read_text())
        assert len(drawn.findall("{*}polyline")) >= 4
    assert len(list(tmp_path.glob("*.svg"))) == 2
    report = bench(tmp_path, "--report")
    assert report.returncode == 0, report.stderr
    assert "best index, demo @0.99" in report.stdout
    assert "QUICK: no measurement" in report.stdout


def test_exact_search_is_read_where_codes_find_nearly_all(tmp_path: Path) -> None:
    bench(tmp_path, "--rows", "exact", "--peers", "synadb")
    record = json.loads((tmp_path / "vectors-exact.json").read_text())
    rows = {row["what"]: row for row in record["rows"]}
    codes, scan = (rows[f"exact search, synadb {kind}"] for kind in ("flat", "exact"))
    assert codes["measured"] is not None
    assert codes["note"] > "recall 0.999"
    assert scan["note"] == "recall 1.0000 at most"


def test_a_quick_run_keeps_filtered_searches_beside_a_peer(tmp_path: Path) -> None:
    done = bench(tmp_path, "--rows", "filters", "--peers", "synadb,faiss")
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "not measured: zvec filtered: left out by --peers" in done.stdout
    record = json.loads((tmp_path / "vectors-filters.json").read_text())
    assert not record["failed"]
    for share in (10, 1):
        points = record["searches"][f"{share} %, reused, batch"]["points"]
        assert {"synadb filtered flat", "faiss filtered HNSW32,Flat"} <= set(points)
        assert points["synadb filtered flat"][0]["recall"] > 0.99
        for way in ("prefix", "keys"):
            fresh = record["searches"][f"{share} %, {way}, single"]["points"]
            assert all(label.startswith("synadb filtered ") for label in fresh)
            assert max(p["recall"] for points in fresh.values() for p in points) > 0.99
    whats = [row["what"] for row in record["rows"] if row["measured"] is not None]
    assert "filtered, 1 % pass, fresh from a prefix" in whats


def test_a_quick_run_states_presets_and_what_a_store_chooses(tmp_path: Path) -> None:
    """Whether it works: of so few rows most presets scan."""
    done = bench(tmp_path, "--rows", "presets,choice", "--peers", "synadb")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    choice = json.loads((tmp_path / "vectors-choice.json").read_text())["found"]
    assert list(choice) == ["2000", "5000", "10000"]
    for found in choice.values():
        assert set(found) == {"none", "flat", "gravity_well"}
        assert found["none"]["recall"] == 1.0
        assert found["flat"]["recall"] > 0.98
    record = json.loads((tmp_path / "vectors-presets.json").read_text())
    promised = {row["what"].split(",")[0]: row["floor"] for row in record["rows"]}
    assert promised == {
        "cascade small": 0.95,
        "cascade large": 0.95,
        "cascade high_recall": 0.99,
        "cascade fast_search": 0.9,
    }
    assert all(row["floor"] <= row["measured"] <= 1.0 for row in record["rows"])
    assert len(record["rows"]) == 5
