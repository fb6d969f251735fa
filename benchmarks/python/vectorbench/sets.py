"""Real data sets with their exact neighbours, and the recall of an answer.

`SYNADB_DATA_WIKI` names the folder of wiki-minilm-384-i8.npz, `SYNADB_DATA_FASHION` that of
fashion-mnist-784-u8.npz where it is another one. `demo` is shipped with the repository.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from frame import PEERS, ROOT

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

CACHE = PEERS / "vectors-cache"
TRUTH = 100
"""Exact neighbours kept for each query; ties with the k-th are looked for among them."""

VERSION = 1
"""Raised when a set is made otherwise, so that nothing old is taken from the cache."""

MILLION_SEED = 20
NARROW = 128
WIKI = "wiki-minilm-384-i8.npz"
FASHION = "fashion-mnist-784-u8.npz"


class NoDataError(Exception):
    """The files of a set are not at hand; the message says what to do."""


@dataclass(frozen=True)
class Shape:
    """What a set is called and how its distances are meant."""

    name: str
    metric: str
    """`l2`, or `ip` over rows of unit length."""
    title: str


SHAPES = {
    "minilm": Shape("minilm", "ip", "wiki-minilm-384, 100,000 passages, questions as queries"),
    "fashion": Shape("fashion", "l2", "fashion-mnist-784, 60,000 pictures, euclidean"),
    "wide": Shape("wide", "ip", "1,536 dimensions: four consecutive passages of wiki-minilm"),
    "demo": Shape("demo", "ip", "the demo's 2,500 passages, questions as queries"),
}


@dataclass(frozen=True)
class VectorSet:
    """Rows and queries, and the exact nearest rows of each query, nearest first."""

    name: str
    metric: str
    folder: Path
    rows: Floats
    queries: Floats
    truth: Ids
    distances: npt.NDArray[np.float64]


def unit(rows: npt.NDArray[Any]) -> Floats:
    """Rows of unit length."""
    floats = rows.astype(np.float32)
    return floats / np.linalg.norm(floats, axis=1, keepdims=True)


def source(file: str) -> Path:
    """Where a file of the large sets lies."""
    names = ["SYNADB_DATA_FASHION"] * (file == FASHION) + ["SYNADB_DATA_WIKI"]
    for name in names:
        folder = os.environ.get(name)
        if folder and (Path(folder) / file).is_file():
            return Path(folder) / file
    raise NoDataError(f"{file} is not there: name its folder in {names[0]} (benchmarks/README.md)")


def wiki() -> tuple[Floats, Floats, Floats]:
    """Passages, questions, and passages that were held back."""
    with np.load(source(WIKI)) as arrays:
        names = ("base_i8", "query_f16", "query_ind_f16")
        base, questions, held = (unit(arrays[name]) for name in names)
    return base, questions, held


def side_by_side(rows: Floats, count: int) -> Floats:
    """Each `count` consecutive rows as one, of unit length."""
    whole = len(rows) // count
    return unit(rows[: whole * count].reshape(whole, -1))


def pairs(rows: Floats, count: int) -> Floats:
    """Averages of `count` random pairs of rows, of unit length; the seed is `MILLION_SEED`."""
    random = np.random.default_rng(MILLION_SEED)
    first = random.integers(len(rows), size=count)
    second = (first + random.integers(1, len(rows), size=count)) % len(rows)
    made = np.empty((count, rows.shape[1]), np.float32)
    for start in range(0, count, 50_000):
        part = slice(start, start + 50_000)
        made[part] = unit(rows[first[part]] + rows[second[part]])
    return made


def demo() -> tuple[Floats, Floats]:
    """The demo's passages and questions."""
    with np.load(ROOT / "data" / "demo" / "vectors.npz") as arrays:
        return unit(arrays["passages_i8"]), unit(arrays["questions_f16"])


def averaged(name: str) -> tuple[Floats, Floats]:
    """`[demo-]pairs-N`, and `[demo-]narrow-N`, which is the first 128 dimensions of that."""
    if name.startswith("demo-"):
        base, questions = demo()
    else:
        base, questions, _ = wiki()
    rows = pairs(base, int(name.rpartition("-")[2]))
    if "narrow-" in name:
        return unit(rows[:, :NARROW]), unit(questions[:, :NARROW])
    return rows, questions


def raw(name: str) -> tuple[Floats, Floats]:
    """Rows and queries of a set."""
    if name == "demo":
        return demo()
    if "pairs-" in name or "narrow-" in name:
        return averaged(name)
    if name == "fashion":
        with np.load(source(FASHION)) as arrays:
            return arrays["base"].astype(np.float32), arrays["query"].astype(np.float32)
    base, questions, held = wiki()
    if name == "wide":
        return side_by_side(base, 4), side_by_side(held, 4)
    return base, questions


def load(name: str, limit: int | None = None, queries: int = 2000) -> VectorSet:
    """A set from the cache, made where it is not there; `limit` keeps the first rows alone."""
    shape = SHAPES.get(name, Shape(name, "ip", name))
    folder = CACHE / "sets" / f"{name}-{limit or 'all'}-{queries}-v{VERSION}"
    if not (folder / "rows.npy").is_file():
        rows, asked = raw(name)
        keep(folder, rows[:limit], asked[:queries], shape.metric)
    return opened(folder, name, shape.metric)


def opened(folder: Path, name: str, metric: str) -> VectorSet:
    """A set of the cache; rows are mapped."""
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    rest = [np.load(folder / f"{part}.npy") for part in ("queries", "truth", "distances")]
    return VectorSet(name, metric, folder, rows, *rest)


def keep(folder: Path, rows: Floats, queries: Floats, metric: str) -> None:
    """Write a set with its exact neighbours, whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    truth, distances = exact(rows, queries, metric, TRUTH)
    arrays = {"rows": rows, "queries": queries, "truth": truth, "distances": distances}
    for name, array in arrays.items():
        np.save(part / f"{name}.npy", np.ascontiguousarray(array))
    part.rename(folder)


def distance(rows: Floats, query: Floats, metric: str) -> npt.NDArray[np.float64]:
    """Euclidean distance with root, or 1 - dot, in double precision."""
    wide, one = rows.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.sqrt(np.square(wide - one).sum(axis=1))
    return 1.0 - wide @ one


def exact(
    rows: Floats, queries: Floats, metric: str, k: int
) -> tuple[Ids, npt.NDArray[np.float64]]:
    """The nearest rows of each query: candidates by a product, their order in double precision."""
    k = min(k, len(rows))
    wanted = min(len(rows), 2 * k)
    squares = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) if metric == "l2" else None
    ids = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    for start in range(0, len(queries), 128):
        product = queries[start : start + 128] @ rows.T
        values = -product if squares is None else squares[None] - 2.0 * product
        near = np.argpartition(values, wanted - 1, axis=1)[:, :wanted]
        for row, candidates in enumerate(near, start):
            found = distance(rows[candidates], queries[row], metric)
            order = np.lexsort((candidates, found))[:k]
            ids[row], distances[row] = candidates[order], found[order]
    return ids, distances


def recall(found: Ids, truth: Ids, distances: npt.NDArray[np.float64], k: int) -> float:
    """The share of the k nearest that was found; a row as near as the k-th counts as one."""
    k = min(k, truth.shape[1])
    hits = 0
    for answer, ids, near in zip(found, truth, distances, strict=True):
        accepted = ids[near <= near[k - 1] * (1 + 1e-5) + 1e-9]
        hits += min(k, int(np.isin(np.unique(answer[:k]), accepted).sum()))
    return hits / (len(found) * k)
