"""The main job: store passages, answer questions, keep a series, survive a kill, share a file.

    python -m synadb.demo --data DIR [--path FILE]

DIR holds passages.jsonl.gz, questions.jsonl.gz, vectors.npz and machine-10hz.csv.gz, as
data/demo/README.md describes them. FILE is created; without it a temporary file is used.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb import SynaDB, VectorStore
from synadb._demo_processes import kill_a_writer, read_beside_a_writer
from synadb._demo_writers import two_writers
from synadb._progress import progress

Floats = npt.NDArray[np.float32]

BATCH = 500
"""Passages stored a call."""

SHOWN = 4
"""Questions printed with their passages."""

TOP = 10
"""Passages fetched for a question."""

TARGET = 0.99
"""Recall that the index is tuned to."""


class Corpus:
    """Passages, questions and their embeddings, read from a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the three files; the vectors are scaled to unit length."""
        self.passages = _records(folder / "passages.jsonl.gz")
        self.questions = _records(folder / "questions.jsonl.gz")
        with np.load(folder / "vectors.npz") as arrays:
            self.vectors = _unit(arrays["passages_i8"])
            self.queries = _unit(arrays["questions_f16"])


def _records(path: Path) -> list[dict[str, Any]]:
    """One JSON object a line of a gzipped file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _unit(rows: npt.NDArray[Any]) -> Floats:
    """Rows as float32, divided by their norms."""
    full = rows.astype(np.float32)
    scaled: Floats = full / np.linalg.norm(full, axis=1, keepdims=True)
    return scaled


@contextmanager
def _timed(what: str, count: int, unit: str) -> Iterator[None]:
    """Print how long a step took, and its rate."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    print(f"{what}: {count:,} {unit} in {seconds:.3f} s ({count / seconds:,.0f}/s)")


def _heading(text: str) -> None:
    print(f"\n== {text}")


def _expect(condition: bool, claim: str) -> None:
    """Leave with an error unless what the demo claims is so."""
    if not condition:
        raise SystemExit(f"demo: not true: {claim}")


def store_passages(path: Path, corpus: Corpus) -> None:
    """Put every passage's text under `text/ID` and its vector into the store of the same file."""
    _heading("Passages")
    keys = [str(passage["id"]) for passage in corpus.passages]
    with (
        SynaDB(path, sync_on_write=False) as database,
        VectorStore(path, dimensions=corpus.vectors.shape[1], sync_on_write=False) as store,
    ):
        starts = range(0, len(keys), BATCH)
        with _timed("texts stored", len(keys), "passages"):
            for start in progress(starts, len(starts), "texts"):
                rows = range(start, min(start + BATCH, len(keys)))
                database.put_many({f"text/{keys[r]}": corpus.passages[r]["text"] for r in rows})
        with _timed("vectors stored", len(keys), "vectors"):
            for start in progress(starts, len(starts), "vectors"):
                part = slice(start, start + BATCH)
                store.insert_batch(keys[part], corpus.vectors[part])
        _expect(len(store) == len(keys), "every vector is in the store")


def build_an_index(path: Path, corpus: Corpus) -> None:
    """Build a graph that is tuned to a recall, and print that on the questions beside exact search.

    The index is tuned on the passages: it has not seen a question.
    """
    _heading("An index")
    total = len(corpus.questions)
    with VectorStore(path, corpus.vectors.shape[1]) as store:
        with _timed("graph built and tuned", len(store), "vectors"):
            store.build_index("hnsw", target_recall=TARGET)
        _expect(store.resolved_backend == "hnsw", "the store has a graph")
        with _timed("exact searches in a batch", total, "questions"):
            exact, _ = store.search_batch(corpus.queries, TOP, exact=True, as_arrays=True)
        with _timed("searches of the graph in a batch", total, "questions"):
            near, _ = store.search_batch(corpus.queries, TOP, as_arrays=True)
    both = zip(exact.tolist(), near.tolist(), strict=True)
    recall = sum(len({*wanted} & {*found}) for wanted, found in both) / exact.size
    print(f"recall@{TOP} against exact search {recall:.4f}, tuned to {TARGET} on passages")
    _expect(recall >= TARGET - 0.02, f"the graph finds {TARGET} of what exact search finds")


def answer_questions(path: Path, corpus: Corpus) -> None:
    """Reopen the file, search for every question, print a few answers and the rate of all."""
    _heading("Questions")
    titles = {passage["id"]: passage["title"] for passage in corpus.passages}
    with SynaDB(path) as database, VectorStore(path, corpus.vectors.shape[1]) as store:
        for number in range(SHOWN):
            question = corpus.questions[number]
            print(f"Q: {question['text']}")
            for hit in store.search(corpus.queries[number], k=3):
                text = database.get_text(f"text/{hit.key}") or ""
                mark = "*" if hit.key == question["passage"] else " "
                print(f"  {mark} {hit.score:.3f}  {titles[hit.key]}: {text[:80]}...")
        total = len(corpus.questions)
        ranks: list[int] = []
        with _timed("searches", total, "questions"):
            for number in progress(range(total), total, "questions"):
                hits = store.search(corpus.queries[number], k=TOP)
                wanted = corpus.questions[number]["passage"]
                ranks.append(next((i for i, hit in enumerate(hits) if hit.key == wanted), TOP))
    first = sum(rank == 0 for rank in ranks) / total
    within = sum(rank < TOP for rank in ranks) / total
    print(f"answer rate over {total:,} questions: R@1 {first:.3f}, R@{TOP} {within:.3f}")
    exact = _exact_first(corpus)
    _expect(abs(first - exact) < 0.005, f"R@1 is that of an exact search, {exact:.3f}")


def _exact_first(corpus: Corpus) -> float:
    """R@1 of a plain matrix product, to compare with."""
    keys = np.array([passage["id"] for passage in corpus.passages])
    best = keys[np.argmax(corpus.queries @ corpus.vectors.T, axis=1)]
    wanted = np.array([question["passage"] for question in corpus.questions])
    return float(np.mean(best == wanted))


def keep_series(path: Path, folder: Path) -> None:
    """Append a recorded sensor series, column by column, and read it back as arrays."""
    _heading("Sensor series")
    with gzip.open(folder / "machine-10hz.csv.gz", "rt", encoding="ascii") as file:
        names = file.readline().strip().split(",")
        readings = np.loadtxt(file, delimiter=",", ndmin=2)
    with SynaDB(path, sync_on_write=False) as database:
        with _timed("appended as arrays", readings[:, 1:].size, "floats"):
            for column, name in enumerate(names[1:-1], start=1):
                database.append_many(f"sensor/{name}", np.ascontiguousarray(readings[:, column]))
        with _timed("appended one by one", len(readings), "floats"):
            last = progress(readings[:, -1].tolist(), len(readings), names[-1])
            for reading in last:
                database.put_float(f"sensor/{names[-1]}", reading)
    with SynaDB(path) as database:
        with _timed("read back as arrays", readings[:, 1:].size, "floats"):
            read = [database.get_history_tensor(f"sensor/{name}") for name in names[1:]]
        for column, (name, series) in enumerate(zip(names[1:], read, strict=True), start=1):
            same = np.array_equal(series, readings[:, column])
            _expect(same, f"sensor/{name} is read back as it was appended")
            print(f"  sensor/{name}: {len(series):,} readings, mean {series.mean():,.2f}")
        _expect(len(database.keys(prefix="sensor/")) == len(names) - 1, "one key a signal")


def report_sizes(path: Path, corpus: Corpus) -> None:
    """Print the sizes of the files beside the size of what they hold."""
    _heading("Files")
    payload = sum(len(passage["text"].encode()) for passage in corpus.passages)
    print(f"passages {payload:,} bytes of text, {corpus.vectors.nbytes:,} bytes of vectors")
    for file in sorted(path.parent.glob(path.name + "*")):
        print(f"{file.name}: {file.stat().st_size:,} bytes")
    with SynaDB(path, access="read_only") as database:
        database.verify()
        print(f"{len(database):,} keys, every checksum right")


def run(folder: Path, path: Path) -> None:
    """The whole main job on a new file at `path`."""
    start = time.perf_counter()
    corpus = Corpus(folder)
    store_passages(path, corpus)
    build_an_index(path, corpus)
    answer_questions(path, corpus)
    keep_series(path, folder)
    _heading("A writer killed with SIGKILL")
    kill_a_writer(path)
    _heading("A reader beside a writer")
    read_beside_a_writer(path)
    _heading("Two processes that write at once")
    two_writers(path, folder, corpus)
    report_sizes(path, corpus)
    print(f"\nthe main job is done in {time.perf_counter() - start:.1f} s")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the job; 0 when everything that it claims was so."""
    parser = argparse.ArgumentParser(prog="synadb.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the demo's data")
    parser.add_argument("--path", type=Path, help="database file to create (default: temporary)")
    options = parser.parse_args(arguments)
    if not (options.data / "passages.jsonl.gz").is_file():
        parser.error(f"no demo data in '{options.data}': passages.jsonl.gz is missing")
    if options.path is not None:
        if options.path.exists():
            parser.error(f"'{options.path}' exists already: name a file to create")
        run(options.data, options.path)
        return 0
    with tempfile.TemporaryDirectory(prefix="synadb-demo-") as folder:
        run(options.data, Path(folder) / "demo.db")
    return 0


if __name__ == "__main__":
    sys.exit(main())
