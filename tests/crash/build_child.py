"""A process of a shared store that inserts and builds indexes, and says what is done.

`python build_child.py FILE SEED FIRST`: a line `done N` once batch N is stored, `begin`, `half` and
`whole` in each build, `saved` behind it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synadb import VectorStore

WIDTH, BATCH = 40, 30
KINDS = ("flat", "gravity_well", "hnsw", "cascade")


def keys_of(seed: int, number: int) -> list[str]:
    """The keys of a batch; some of them are those of the one before."""
    return [f"{seed}/{number * (BATCH - 5) + n}" for n in range(BATCH)]


def rows_of(seed: int, number: int) -> NDArray[np.float32]:
    """Its vectors."""
    return np.random.default_rng([seed, number]).standard_normal((BATCH, WIDTH), dtype=np.float32)


def open_store(path: str | Path) -> VectorStore:
    """The store, as every process opens it."""
    return VectorStore(path, WIDTH, "euclidean", sync_on_write=False, lock_timeout=60.0)


def main(path: str, seed: int, first: int) -> None:
    """Goes on until somebody ends it."""
    dice, said = random.Random(seed + first), ""

    def say(line: str) -> None:
        nonlocal said
        if line != said:
            print(line, flush=True)
        said = line

    with open_store(path) as store:
        number = first
        while True:
            store.insert_batch(keys_of(seed, number), rows_of(seed, number))
            say(f"done {number}")
            number += 1
            if dice.random() < 0.4:
                store.build_index(
                    dice.choice(KINDS),
                    threads=1,
                    progress=lambda done, total: say(
                        "whole" if done == total else "half" if 2 * done >= total else "begin"
                    ),
                )
                say("saved")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
