"""FAISS over a store's vectors, with the real package."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from synadb import KeyFilter, SynaDB, VectorStore
from synadb.errors import (
    ConfigMismatchError,
    CorruptionError,
    DatabaseClosedError,
    DimensionError,
    InvalidArgumentError,
    InvalidVectorError,
)
from synadb.faiss import FaissIndex, from_faiss

if TYPE_CHECKING:
    from numpy.typing import NDArray

with warnings.catch_warnings():
    # Its wrapper classes have no module name, which newer Pythons warn of.
    warnings.simplefilter("ignore")
    faiss: Any = pytest.importorskip(
        "faiss", reason="run `make setup`: requirements/core.txt has faiss-cpu"
    )

DATA = Path(__file__).parents[1] / "data" / "demo" / "vectors.npz"
METRICS = ("cosine", "euclidean", "dot_product")
FACTORIES = ("Flat", "HNSW32", "IVF16,Flat", "PCA64,Flat", "IVF16,PQ32x4fs,RFlat")


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Embeddings of real passages, 384 dimensions, at lengths of their own."""
    with np.load(DATA) as data:
        found = data["passages_i8"][:2000].astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found * np.linspace(0.5, 2, len(found), dtype=np.float32)[:, None]


def filled(path: Path, rows: NDArray[np.float32], metric: str = "cosine") -> VectorStore:
    store = VectorStore(path, rows.shape[1], metric, sync_on_write=False)
    store.insert_batch([f"k{n}" for n in range(len(rows))], rows)
    return store


def agrees(near: FaissIndex, queries: NDArray[np.float32], **how: Any) -> None:
    """The index gives what the exact scan of the store gives, key by key, to rounding."""
    keys, scores = near.search_batch(queries, 10, **how)
    exact_keys, exact = near.store.search_batch(queries, 10, exact=True, as_arrays=True)
    np.testing.assert_allclose(scores, exact, rtol=1e-3, atol=1e-4)
    same = keys == exact_keys
    # Only neighbours whose distances rounding cannot tell apart may change places.
    assert same.mean() > 0.98
    assert (scores.dtype, keys.dtype) == (np.float32, object)


@pytest.mark.parametrize("metric", METRICS)
def test_flat_agrees_with_the_exact_scan(
    path: Path, rows: NDArray[np.float32], metric: str
) -> None:
    with filled(path, rows[100:], metric) as store:
        agrees(store.to_faiss("Flat"), rows[:100])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("factory", FACTORIES)
def test_any_factory_finds_most_and_follows_the_store(
    path: Path, rows: NDArray[np.float32], factory: str, metric: str
) -> None:
    floor = 0.4 if "P" in factory else 0.9
    with filled(path, rows[100:1500], metric) as store:
        near = store.to_faiss(factory)
        for n in range(200):
            store.delete(f"k{n}")
        store.insert_batch([f"new{n}" for n in range(500)], rows[1500:])
        store.update("k300", rows[0])
        keys, _ = near.search_batch(rows[:100], 10, nprobe=16, ef_search=200, k_factor=4)
        exact, _ = store.search_batch(rows[:100], 10, exact=True, as_arrays=True)
        hits = [len({*a} & {*b}) / 10 for a, b in zip(keys, exact, strict=True)]
        assert np.mean(hits) >= floor
        assert {key for key in keys.flat if key is not None} <= set(store)
        assert len(near) == len(store) == 1700
        some = [f"new{n}" for n in range(0, 500, 25)]
        only, scores = near.search_batch(rows[:50], 30, among=some, nprobe=16, ef_search=2000)
        assert {key for key in only.flat if key is not None} <= set(some)
        assert np.mean([(row != None).sum() for row in only]) >= 19  # noqa: E711
        assert np.isinf(scores[:, 20:]).all()
        assert near.search(rows[0], 3, among=["no such key"]) == []
        found = near.search(rows[7], 2, among=lambda key: key == "k400", nprobe=16, ef_search=2000)
        assert [hit.key for hit in found] == ["k400"]


@pytest.mark.parametrize("metric", METRICS)
def test_compaction_needs_no_new_index(path: Path, rows: NDArray[np.float32], metric: str) -> None:
    with filled(path, rows[100:1000], metric) as store:
        near = store.to_faiss("Flat")
        before = near.index
        store.delete("k3")
        store.update("k4", rows[5])
        store.compact()
        store.insert("later", rows[6])
        assert near.refresh() == (2, 2)
        assert near.refresh() == (0, 0)
        assert near.index is before
        agrees(near, rows[:50])


def test_index_that_is_half_dead_is_built_anew(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[:1000]) as store:
        near = store.to_faiss("Flat")
        for n in range(501):
            store.delete(f"k{n}")
        assert near.refresh() == (0, 501)
        assert near.index.ntotal == len(near) == 499
        agrees(near, rows[900:950])


def test_saved_index_comes_back_and_follows(path: Path, rows: NDArray[np.float32]) -> None:
    with filled(path, rows[100:1000]) as store:
        near = store.to_faiss("IVF16,Flat")
        store.delete("k0")
        near.save()
    with VectorStore(path) as store:
        store.insert("new", rows[0])
        store.compact()
        store.delete("k1")
        near = FaissIndex.load(store)
        assert (near.factory, near.index.ntotal, len(near)) == ("IVF16,Flat", 901, 899)
        agrees(near, rows[:50], nprobe=16)
    place = path.with_name(path.name + "-faiss")
    assert sorted(p.name for p in path.parent.glob("*faiss*")) == [place.name]
    whole = place.read_bytes()
    with VectorStore(path, access="read_only") as store:
        for at in np.linspace(0, len(whole) - 1, 50).astype(int):
            place.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            try:
                damaged = FaissIndex.load(store)
            except CorruptionError:
                continue
            agrees(damaged, rows[:5], nprobe=16)
        place.write_bytes(whole[:-1000])
        with pytest.raises(CorruptionError):
            FaissIndex.load(store)
        place.unlink()
        with pytest.raises(FileNotFoundError):
            FaissIndex.load(store)


def test_saved_index_of_another_store_is_refused(path: Path, rows: NDArray[np.float32]) -> None:
    saved = path.with_name("saved")
    with filled(path, rows[:100]) as store:
        store.to_faiss("Flat").save(saved)
    with (
        filled(path.with_name("b.db"), rows[:100], "euclidean") as other,
        pytest.raises(ConfigMismatchError, match=r"cosine.*euclidean"),
    ):
        FaissIndex.load(other, saved)


def test_saved_index_of_a_store_that_was_made_anew_is_refused(
    path: Path, rows: NDArray[np.float32]
) -> None:
    """The same keys in the same commits, but other vectors."""
    with filled(path, rows[:100]) as store:
        store.to_faiss("Flat").save()
    for place in (path, path.with_name(path.name + "-ckpt")):
        place.unlink(missing_ok=True)
    with filled(path, rows[100:200]) as store:
        with pytest.raises(ConfigMismatchError, match="database"):
            FaissIndex.load(store)
        store.to_faiss("Flat").save()
        store.backup(path.with_name("b.db"))
        near = FaissIndex.load(store)
        agrees(near, rows[:10])
    with VectorStore(path.with_name("b.db")) as store:
        agrees(FaissIndex.load(store, str(path) + "-faiss"), rows[:10])


def test_saved_index_of_another_table_is_refused(path: Path, rows: NDArray[np.float32]) -> None:
    with (
        SynaDB(path) as db,
        VectorStore(db, 384, name="titles") as titles,
        VectorStore(db, 384, name="bodies") as bodies,
    ):
        with db.batch() as batch:
            for store, row in ((titles, rows[0]), (bodies, rows[1])):
                batch.insert(store, "k", row)
        titles.to_faiss("Flat").save()
        with pytest.raises(ConfigMismatchError, match=r"'titles'.*'bodies'"):
            FaissIndex.load(bodies)


def test_file_that_cannot_be_read_is_not_called_damaged(
    path: Path, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled(path, rows[:100]) as store:
        with pytest.raises(IsADirectoryError):
            FaissIndex.load(store, path.parent)
        saved = path.with_name("saved")
        store.to_faiss("Flat").save(saved)
        whole = saved.read_bytes()
        flags = whole.rfind(b"PK\x01\x02") + 8
        saved.write_bytes(whole[:flags] + bytes([whole[flags] | 1]) + whole[flags + 1 :])
        with pytest.raises(CorruptionError, match="saved"):
            FaissIndex.load(store, saved)

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(PermissionError):
            FaissIndex.load(store, saved)


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,Flat"])
def test_index_is_right_after_an_interrupted_add(
    path: Path, rows: NDArray[np.float32], factory: str
) -> None:
    with filled(path, rows[:500], "euclidean") as store:
        near = store.to_faiss(factory)
        whole = near.index
        store.insert_batch([f"n{n}" for n in range(500)], rows[500:1000])

        class Interrupted:
            def __getattr__(self, name: str) -> Any:
                return getattr(whole, name)

            def add(self, added: NDArray[np.float32]) -> None:
                whole.add(added)
                raise KeyboardInterrupt

        near.index = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            near.search(rows[0])
        for n in (0, 499, 500, 999):
            found = near.search(rows[n], 1, nprobe=16, ef_search=1000)[0].key
            assert found == (f"k{n}" if n < 500 else f"n{n - 500}")
        assert near.index.ntotal == len(near.keys) == 1000


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,Flat"])
def test_a_key_filter_says_which_keys_count(
    path: Path, rows: NDArray[np.float32], factory: str
) -> None:
    with filled(path, rows[100:800]) as store:
        near = store.to_faiss(factory)
        for n in range(0, 700, 5):
            store.delete(f"k{n}")
        store.insert_batch(["k6", "new8"], rows[800:802])
        tens = {key for key in store if key.startswith("k1")}
        cases = {
            KeyFilter(["k3", "k5", "k6", "new8", "no such key"]): {"k3", "k6", "new8"},
            KeyFilter(prefix="k1"): tens,
            KeyFilter(glob="k*[24]"): {key for key in store if key[0] + key[-1] in {"k2", "k4"}},
            ~KeyFilter(prefix="k1"): set(store) - tens,
            KeyFilter(prefix="none"): set(),
        }
        how = {"nprobe": 16, "ef_search": 2000}
        for among, allowed in cases.items():
            keys, scores = near.search_batch(rows[:20], 10, among=among, **how)
            exact, _ = store.search_batch(rows[:20], 10, filter=among, exact=True, as_arrays=True)
            assert {key for key in keys.flat if key is not None} <= allowed
            assert np.isfinite(scores).sum() == 20 * min(10, len(allowed))
            assert (keys == exact).mean() > 0.98
        for wrong in ("k3", b"k3", [1, 2], ["k3", None], KeyFilter):
            with pytest.raises(TypeError, match="among must"):
                near.search(rows[0], 3, among=wrong)  # type: ignore[arg-type]


def handed_to(monkeypatch: pytest.MonkeyPatch, near: FaissIndex) -> list[tuple[str, int, int]]:
    """Records what FAISS itself gets of every index of that class: call, rows, where they lie."""
    kind, handed = type(near.index), []

    def record(name: str) -> None:
        real = getattr(kind, name)

        def call(index: Any, count: int, rows: Any) -> Any:
            handed.append((name, count, int(rows)))
            return real(index, count, rows)

        monkeypatch.setattr(kind, name, call)

    record("add_c")
    record("train_c")
    return handed


@pytest.mark.parametrize("metric", ["euclidean", "dot_product"])
@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,Flat"])
def test_faiss_reads_the_mapped_vectors_themselves(
    path: Path,
    rows: NDArray[np.float32],
    factory: str,
    metric: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with filled(path, rows, metric) as store:
        near = store.to_faiss(factory)
        handed = handed_to(monkeypatch, near)
        matrix, _ = store.as_array(copy=False)
        near.rebuild()
        place = matrix.ctypes.data
        is_trained = [("train_c", 2000, place)] if factory.startswith("IVF") else []
        assert handed == [*is_trained, ("add_c", 2000, place)]
        handed.clear()
        store.insert_batch([f"new{n}" for n in range(500)], rows[:500])
        later = store.as_blocks()[-1][0][-500:]
        assert near.refresh() == (500, 0)
        assert handed == [("add_c", 500, later.ctypes.data)]


@pytest.mark.parametrize(("metric", "width"), [("cosine", 32), ("euclidean", 17)])
def test_what_faiss_cannot_read_in_place_is_copied_in_pieces(
    path: Path, metric: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = np.random.default_rng(3).standard_normal((40_000, width), dtype=np.float32)
    with filled(path, made, metric) as store:
        near = store.to_faiss("Flat")
        handed = handed_to(monkeypatch, near)
        near.rebuild()
        assert sum(count for _, count, _ in handed) == 40_000
        assert max(count for _, count, _ in handed) <= 16_384
        agrees(near, made[:20] + np.float32(0.1))


@pytest.mark.parametrize("factory", ["NSG16", "PQ32x4fs"])
def test_index_without_parameters_takes_a_search_that_names_some(
    path: Path, rows: NDArray[np.float32], factory: str
) -> None:
    with filled(path, rows[:500]) as store:
        near = store.to_faiss(factory)
        assert near.search(rows[0], 3, nprobe=4, ef_search=9) == near.search(rows[0], 3)
        some = near.search(rows[0], 3, among=["k1", "k2"], nprobe=4)
        assert {hit.key for hit in some} == {"k1", "k2"}


def test_empty_store_takes_what_comes(path: Path, rows: NDArray[np.float32]) -> None:
    with VectorStore(path, 384, sync_on_write=False) as store:
        near = store.to_faiss("IVF8,Flat")
        assert near.search(rows[0]) == []
        store.insert_batch([f"k{n}" for n in range(1000)], rows[:1000])
        agrees(near, rows[:20], nprobe=8)
        assert len(near.search(rows[0], 2000, nprobe=8)) == 1000


def test_bad_arguments_are_refused_by_name(path: Path, rows: NDArray[np.float32]) -> None:
    store = filled(path, rows[:100])
    with pytest.raises(InvalidArgumentError, match=r"factory.*Nonsense"):
        store.to_faiss("Nonsense")
    with pytest.raises(InvalidArgumentError, match=r"factory.*100 vectors"):
        store.to_faiss("IVF1024,Flat")
    with pytest.raises(InvalidArgumentError, match=r"factory.*IDMap"):
        store.to_faiss("IDMap,Flat")
    near = store.to_faiss("Flat")
    with pytest.raises(DimensionError, match="384"):
        near.search(rows[0, :10])
    with pytest.raises(InvalidVectorError, match="NaN"):
        near.search(np.full(384, np.nan))
    with pytest.raises(InvalidArgumentError, match="k: "):
        near.search(rows[0], -1)
    with pytest.raises(TypeError, match="among"):
        near.search(rows[0], among="k1")
    store.close()
    with pytest.raises(DatabaseClosedError):
        near.search(rows[0])


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "IVF16,Flat", "IDMap,Flat"])
def test_store_made_of_an_index(path: Path, rows: NDArray[np.float32], factory: str) -> None:
    index = faiss.index_factory(384, factory)
    index.train(rows)
    if factory.startswith("IDMap"):
        index.add_with_ids(rows, np.arange(len(rows)) * 3)
    else:
        index.add(rows)
    with from_faiss(index, path) as store:
        assert store.metric == "euclidean"
        step = 3 if factory.startswith("IDMap") else 1
        names = [str(n * step) for n in range(len(rows))]
        assert store.get_batch(names).tobytes() == rows.tobytes()
    with SynaDB(path) as db, from_faiss(index, db, names[::-1], metric="cosine", name="b") as store:
        assert store.get_batch(names[::-1]).tobytes() == rows.tobytes()
    with pytest.raises(InvalidArgumentError, match="keys: 1 keys"):
        from_faiss(index, path.with_name("c.db"), ["a"])
    without = faiss.index_factory(384, "ITQ64,LSH")
    without.train(rows)
    without.add(rows)
    with pytest.raises(InvalidArgumentError, match="gives no vectors back"):
        from_faiss(without, path.with_name("c.db"))
    assert not path.with_name("c.db").exists()


@pytest.mark.parametrize(
    "keys", ["abc", b"abc", {"a", "b", "c"}, frozenset("abc"), {"a": 1, "b": 2, "c": 3}]
)
def test_keys_without_an_order_are_refused(path: Path, keys: Any) -> None:
    index = faiss.IndexFlatL2(4)
    index.add(np.eye(3, 4, dtype=np.float32))
    with pytest.raises(TypeError, match=rf"keys must be .*{type(keys).__name__}"):
        from_faiss(index, path, keys)
    assert not path.exists()
    with from_faiss(index, path, iter("abc")) as made:
        assert made.keys() == ["a", "b", "c"]


def test_absent_package_is_named(path: Path) -> None:
    code = (
        "import sys, synadb\n"
        "sys.modules['faiss'] = None\n"
        "store = synadb.VectorStore(sys.argv[1], 4)\n"
        "try:\n"
        "    store.to_faiss('Flat')\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert "pip install 'synadb[faiss]'" in done.stdout
