"""Cut the demo's passages and questions out of the wiki set.

    python tools/make_demo_data.py SOURCE TARGET

SOURCE holds wiki-text-base.jsonl.gz, wiki-text-query.jsonl.gz, wiki-text-squad_all_qrels.tsv.gz and
wiki-minilm-384-i8.npz. Every passage that answers a SQuAD question is taken, and filled up with
other Wikipedia passages, evenly spread; each of the 1,000 embedded SQuAD questions is kept.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

PASSAGES = 2_500
QUESTIONS = 1_000


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a gzipped text file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line; the same input gives the same bytes."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def choose_rows(source: Path, total: int) -> list[int]:
    """Rows of all passages with a question, and of others up to `PASSAGES`."""
    lines = list(read_lines(source / "wiki-text-squad_all_qrels.tsv.gz"))[1:]
    chosen = {int(line.split("\t")[1]) for line in lines}
    others = [row for row in range(total) if row not in chosen]
    missing = PASSAGES - len(chosen)
    fill = others[:: len(others) // missing][:missing]
    return sorted(chosen | set(fill))


def main(source: Path, target: Path) -> None:
    """Write passages, questions and vectors into `target`."""
    arrays = np.load(source / "wiki-minilm-384-i8.npz")
    vectors = arrays["base_i8"]
    rows = choose_rows(source, len(vectors))
    texts = [json.loads(line) for line in read_lines(source / "wiki-text-base.jsonl.gz")]
    passages = [texts[row] for row in rows]
    keys = {row: passage["id"] for row, passage in zip(rows, passages, strict=True)}
    queries = [json.loads(line) for line in read_lines(source / "wiki-text-query.jsonl.gz")]
    questions = [
        {"id": q["id"], "text": q["text"], "answers": q["answers"], "passage": keys[q["rel_row"]]}
        for q in queries[:QUESTIONS]
    ]
    target.mkdir(parents=True, exist_ok=True)
    fields = ("id", "title", "text")
    write_records(target / "passages.jsonl.gz", ({f: p[f] for f in fields} for p in passages))
    write_records(target / "questions.jsonl.gz", questions)
    np.savez_compressed(
        target / "vectors.npz",
        passages_i8=vectors[rows],
        questions_f16=arrays["query_f16"][:QUESTIONS],
    )
    print(f"{len(passages)} passages, {len(questions)} questions")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
