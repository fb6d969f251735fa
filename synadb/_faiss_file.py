"""The file of a FAISS index: a zip of NumPy arrays, read without pickle."""

from __future__ import annotations

import json
import os
import secrets
import zipfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from synadb.errors import CorruptionError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_CORRUPTION = -4
_FORMAT = 2
# An encrypted part is a RuntimeError.
_NOT_SAVED = (OSError, ValueError, LookupError, TypeError, EOFError, OverflowError, RuntimeError)


class Saved(NamedTuple):
    """What the file holds: FAISS's bytes; for each row its key, its commit, whether it lives."""

    factory: str
    seed: int
    store: tuple[str, str]
    metric: str
    dimensions: int
    keys: list[str]
    versions: list[int]
    live: NDArray[np.bool_]
    serialized: NDArray[np.uint8]


def write(target: Path, saved: Saved) -> None:
    """Writes the file aside, syncs it and puts it in its place."""
    import numpy as np

    names = [key.encode() for key in saved.keys]
    about = {
        "format": _FORMAT,
        "factory": saved.factory,
        "seed": saved.seed,
        "store": saved.store,
        "metric": saved.metric,
        "dimensions": saved.dimensions,
    }
    aside = target.with_name(f"{target.name}-tmp-{secrets.token_hex(8)}")
    try:
        with aside.open("xb") as file:
            np.savez(
                file,
                about=np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
                index=saved.serialized,
                keys=np.frombuffer(b"".join(names), dtype=np.uint8),
                lengths=np.array([len(name) for name in names], dtype=np.int64),
                versions=np.array(saved.versions, dtype=np.uint64),
                live=saved.live,
            )
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def read(place: Path) -> Saved:
    """Reads the file; `CorruptionError` where its parts do not fit their checksums; `OSError`."""
    with place.open("rb") as file:
        try:
            return _read(file)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise CorruptionError(_CORRUPTION, f"{place}: damaged: {error}") from error
        except _NOT_SAVED as error:
            raise CorruptionError(_CORRUPTION, f"{place}: no saved index: {error}") from error


def _read(file: BinaryIO) -> Saved:
    import numpy as np

    with np.load(file, allow_pickle=False) as data:
        about = json.loads(data["about"].tobytes())
        text, lengths = data["keys"].tobytes(), data["lengths"].tolist()
        versions, live, index = data["versions"].tolist(), data["live"], data["index"]
    if about["format"] != _FORMAT:
        raise ValueError(f"format {about['format']}")
    if min(lengths, default=0) < 0 or sum(lengths) != len(text):
        raise ValueError("its keys do not fit their lengths")
    if not len(lengths) == len(versions) == len(live):
        raise ValueError("its parts have different lengths")
    keys, at = [], 0
    for length in lengths:
        keys.append(text[at : at + length].decode())
        at += length
    database, table = about["store"]
    known = (str(about["factory"]), int(about["seed"]), (str(database), str(table)))
    shape = (str(about["metric"]), int(about["dimensions"]))
    return Saved(*known, *shape, keys, versions, live, index)
