"""The contestants: where each is found, what stands for it, and why one is not there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from frame import PEERS as FOLDER

from .adapter import Adapter
from .databases import Chroma, Lancedb, Zvec
from .filtered import FilteredFaiss, FilteredOurs, FilteredZvec
from .graphs import Glass, Hnswlib, Svs, Usearch, Vsag
from .lists import Faiss, FaissFlat, Rabitq
from .original import Original
from .ours import Ours

PACKAGES = FOLDER / "vectors"
OURS = "synadb"


@dataclass(frozen=True)
class Peer:
    """A library of the comparison."""

    name: str
    adapter: type[Adapter]
    distribution: str
    folder: str | None = None
    """Its folder in .bench/vectors; `None` for what the environment has."""
    role: str = "library"
    """Or `store`, a whole one, measured one query a call alone; else the rows it is there for."""

    @property
    def is_ours(self) -> bool:
        """Whether it is this repository's."""
        return issubclass(self.adapter, Ours)

    @property
    def option(self) -> str:
        """What `--peers` calls it."""
        return self.name.removesuffix(" filtered")

    @property
    def path(self) -> Path | None:
        """What goes on a child's path."""
        return None if self.folder is None else PACKAGES / self.folder

    def missing(self) -> str | None:
        """Why it cannot be measured here, or `None`."""
        if self.version() is not None:
            return None
        note = PACKAGES / f"{self.folder}.missing"
        if note.is_file():
            return note.read_text(encoding="utf-8").strip()
        which = "--peers" if self.adapter is Original else "--vector-peers"
        return f"not installed: python3 tools/setup.py {which}"

    def version(self) -> str | None:
        """The installed version."""
        path = [] if self.path is None else [str(self.path)]
        if self.path is not None and not self.path.is_dir():
            return None
        try:
            if path:
                return next(metadata.distributions(name=self.distribution, path=path)).version
            return metadata.version(self.distribution)
        except (StopIteration, metadata.PackageNotFoundError):
            return None


CONTESTANTS = {
    peer.name: peer
    for peer in (
        Peer(OURS, Ours, "synadb"),
        Peer("hnswlib", Hnswlib, "hnswlib", "hnswlib"),
        Peer("faiss", Faiss, "faiss-cpu"),
        Peer("faiss flat", FaissFlat, "faiss-cpu", role="exact"),
        Peer("rabitqlib", Rabitq, "rabitqlib", "rabitqlib"),
        Peer("svs", Svs, "scalable-vs", "svs"),
        Peer("glass portable", Glass, "pyglass-portable", "glass"),
        Peer("vsag", Vsag, "pyvsag", "vsag"),
        Peer("usearch", Usearch, "usearch", "usearch"),
        Peer("zvec", Zvec, "zvec", "zvec", "store"),
        Peer("chroma", Chroma, "chromadb", "chroma", "store"),
        Peer("lancedb", Lancedb, "lancedb", "lancedb", "store"),
        Peer("synadb filtered", FilteredOurs, "synadb", role="filtered"),
        Peer("zvec filtered", FilteredZvec, "zvec", "zvec", "filtered"),
        Peer("faiss filtered", FilteredFaiss, "faiss-cpu", role="filtered"),
        Peer("original", Original, "synadb", "../original", "original"),
    )
}

OPTIONS = tuple(dict.fromkeys(peer.option for peer in CONTESTANTS.values()))
"""What `--peers` takes."""

UNAVAILABLE = {
    "glass": "glassppy 1.0.5 has wheels for CPython 3.10 alone and no source distribution; "
    "'glass portable' (pyglass-portable, a build without AVX-512) stands in",
}
"""Peers that nobody can install for the Python that is used."""

LIBRARIES = tuple(name for name, peer in CONTESTANTS.items() if peer.role == "library")
STORES = (OURS, *(name for name, peer in CONTESTANTS.items() if peer.role == "store"))
FILTERED = tuple(name for name, peer in CONTESTANTS.items() if peer.role == "filtered")


def present(names: tuple[str, ...] | list[str]) -> tuple[list[str], dict[str, str]]:
    """Of the names those that can be measured, and why the others cannot."""
    reasons = {name: CONTESTANTS[name].missing() for name in names}
    absent = {name: why for name, why in reasons.items() if why is not None}
    if any(CONTESTANTS[name].adapter is Glass for name in names):
        absent |= UNAVAILABLE
    return [name for name, why in reasons.items() if why is None], absent


def tag(peer: Peer) -> str:
    """What an index in the cache is good for: the version, for ours the compiled engine too."""
    version = peer.version() or "none"
    if not peer.is_ours:
        return re.sub(r"[^\w.]", "-", version)
    native = next((Path(__file__).resolve().parents[3] / "synadb").glob("_native*.so"))
    stat = native.stat()
    return f"{version}-{stat.st_size}-{stat.st_mtime_ns}"
