"""Key-value workloads from Python: ours beside SQLite, LMDB, RocksDB and synadb 1.1.1.

make bench-kv
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from frame import Contestant, Figures, print_table, run_rounds, save
from stores import STORES, Store

CONTESTANTS = (
    Contestant("synadb", distribution="synadb"),
    Contestant("sqlite"),
    Contestant("lmdb", packages="bench", distribution="lmdb"),
    Contestant("lmdb snapshot", packages="bench", distribution="lmdb"),
    Contestant("rocksdict", packages="bench", distribution="rocksdict"),
    Contestant("synadb 1.1.1", packages="original", distribution="synadb"),
    Contestant("dict", is_limit=True),
)

PUT = "put 64 B one by one, no sync"
GET = "get 64 B, random keys"
BATCH = "put 64 B in batches of 1,000, no sync"
SYNCED = "put 64 B one by one, synced"

GET_ONLY = {"lmdb snapshot"}
"""Contestants that differ from another one in their gets alone."""

PUTS = 200_000
GETS = 200_000
SYNCED_PUTS = 300
BATCH_ITEMS = 1_000

DURABILITY = {
    PUT: "survives the death of the process (SQLite: WAL, synchronous OFF; LMDB: NOSYNC)",
    GET: "sees the latest commit (lmdb snapshot: what was there at its first get)",
    BATCH: "as above, 1,000 items a commit (synadb 1.1.1: one by one)",
    SYNCED: "on the medium when the call returns",
}


def timed(act: Callable[[], None], count: int) -> float:
    """Items a second of one act, with the garbage collector out of the way."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    act()
    seconds = time.perf_counter() - start
    gc.enable()
    return count / seconds


def run_workloads(name: str, scale: float) -> dict[str, float]:
    """Every workload once on fresh stores."""
    seeded = random.Random(11)
    names = [f"key:{number:012d}" for number in range(int(PUTS * scale))]
    seeded.shuffle(names)
    texts = [seeded.randbytes(32).hex() for _ in names]
    is_limit = any(c.is_limit for c in CONTESTANTS if c.name == name)
    is_bytes = STORES[name].takes_bytes
    keys = [word.encode() for word in names] if is_bytes else names
    values = [text.encode() for text in texts] if is_bytes else texts
    asked = seeded.choices(keys, k=int(GETS * scale))
    pairs = list(zip(keys, values, strict=True))
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(name, Path(folder) / "single", sync=False)
        rates[PUT] = timed(lambda: put_all(store, pairs), len(pairs))
        assert store.get(keys[0]) == values[0]
        rates[GET] = timed(lambda: get_all(store, asked), len(asked))
        store.close()
        if name in GET_ONLY:
            return {GET: rates[GET]}
        store = open_store(name, Path(folder) / "batch", sync=False)
        starts = range(0, len(pairs), BATCH_ITEMS)
        batches = [dict(pairs[start : start + BATCH_ITEMS]) for start in starts]
        rates[BATCH] = timed(lambda: [store.put_many(b) for b in batches] and None, len(pairs))
        assert store.get(keys[-1]) == values[-1]
        store.close()
        if not is_limit:
            store = open_store(name, Path(folder) / "synced", sync=True)
            some = pairs[:SYNCED_PUTS]
            rates[SYNCED] = timed(lambda: put_all(store, some), len(some))
            store.close()
    return rates


def open_store(name: str, folder: Path, sync: bool) -> Store:
    """A new store in a new folder."""
    folder.mkdir()
    return STORES[name](folder, sync)


def put_all(store: Store, pairs: list[tuple[Any, Any]]) -> None:
    """One put a pair."""
    put = store.put
    for key, text in pairs:
        put(key, text)


def get_all(store: Store, keys: list[Any]) -> None:
    """One get a key."""
    get = store.get
    for key in keys:
        get(key)


def measure(names: set[str], rounds: int, scale: float) -> Figures:
    """Run the named contestants beside each other."""
    chosen = [c for c in CONTESTANTS if c.name in names]
    return run_rounds(Path(__file__), chosen, rounds, ["--scale", str(scale)])


def main() -> None:
    """Run all, print the table, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help="run one contestant here and print its rates")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the counts of items")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_workloads(options.child, options.scale)))
        return
    figures = measure({c.name for c in CONTESTANTS}, options.rounds, options.scale)
    print_table(figures, CONTESTANTS)
    settings = {
        "rounds": options.rounds,
        "puts": int(PUTS * options.scale),
        "gets": int(GETS * options.scale),
        "synced puts": SYNCED_PUTS,
        "durability": DURABILITY,
    }
    print(f"\nkept in {save('kv', figures, CONTESTANTS, settings).name}")


if __name__ == "__main__":
    main()
