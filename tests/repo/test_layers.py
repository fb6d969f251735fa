"""Who may import whom: the layers of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from repo_files import ROOT, name, sources

CRATES = {
    "synadb-types": set(),
    "synadb-storage": {"synadb-types"},
    "synadb-index": {"synadb-types"},
    "synadb": {"synadb-types", "synadb-storage", "synadb-index"},
    "synadb-python": {"synadb"},
    "fuzz": {"synadb-types", "synadb-storage", "synadb"},
}
"""Crates of the workspace that a crate may depend on."""

COMPONENTS = {"kv", "vector"}
ROOMS = {"collection", "filter", "blob"}
LEAVES = {"value", "keys", "glob", "error", "config", "distance", "sections", "progress"}
ENGINE = {"db"}

SIBLINGS = {"vector": {"kv"}}
"""Components that a component may use: `VectorStore::attach` takes a `SynaDB`."""

MAY_USE = {
    **dict.fromkeys(LEAVES, LEAVES),
    "filter": LEAVES,
    "db": LEAVES | ENGINE,
    "collection": LEAVES | ENGINE | ROOMS,
    "blob": LEAVES | ENGINE | {"blob"},
    "kv": LEAVES | ENGINE | ROOMS | {"kv"},
    "vector": LEAVES | ENGINE | ROOMS | {"vector"} | SIBLINGS["vector"],
    "tables": LEAVES | ENGINE | ROOMS | COMPONENTS,
    "repair": LEAVES | ENGINE | ROOMS | COMPONENTS | {"tables"},
    "original": LEAVES | ENGINE | ROOMS | COMPONENTS,
    "crash_tests": LEAVES | ENGINE | COMPONENTS | {"tables"},
}
"""Modules of the crate synadb that one of its modules may use."""

INDEX_USERS = COMPONENTS | {"distance"}
"""Modules of the crate synadb that may use synadb-index."""

SRC = ROOT / "rust" / "synadb" / "src"
COMMENT = re.compile(r"//.*")
CRATE_PATH = re.compile(r"\bcrate::(?:\{([^;]*?)\}\s*;|(\w+))", re.DOTALL)
GROUP_HEAD = re.compile(r"(?:^|,)\s*(\w+)")


def module_of(path: Path) -> str:
    """The top-level module that a file of the crate synadb belongs to."""
    return path.relative_to(SRC).parts[0].removesuffix(".rs")


def without_groups(text: str) -> str:
    """The text of a use group without what stands in inner braces."""
    while (shorter := re.sub(r"\{[^{}]*\}", "", text)) != text:
        text = shorter
    return text


def used_modules(path: Path) -> set[str]:
    """Modules that a file names by `crate::`, by itself or in a group."""
    code = "\n".join(COMMENT.sub("", line) for line in path.read_text().splitlines())
    found: set[str] = set()
    for group, single in CRATE_PATH.findall(code):
        found.update([single] if single else GROUP_HEAD.findall(without_groups(group)))
    return {word for word in found if (SRC / word).is_dir() or (SRC / f"{word}.rs").is_file()}


def rust_modules() -> list[Path]:
    return [p for p in sources(".rs") if p.is_relative_to(SRC) and p.name != "lib.rs"]


def test_crates_depend_downwards_only() -> None:
    for crate, allowed in CRATES.items():
        manifest = tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text())
        used = {word for word in manifest.get("dependencies", {}) if word.startswith("synadb")}
        assert used <= allowed, crate
    types = tomllib.loads((ROOT / "rust" / "synadb-types" / "Cargo.toml").read_text())
    assert not types.get("dependencies")


@pytest.mark.parametrize("path", rust_modules(), ids=name)
def test_modules_of_the_engine_import_downwards_only(path: Path) -> None:
    module = module_of(path)
    assert module in MAY_USE, f"'{module}' has no place in the layers of this test"
    assert used_modules(path) - {module} <= MAY_USE[module]


@pytest.mark.parametrize("path", rust_modules(), ids=name)
def test_only_components_know_the_index_crate(path: Path) -> None:
    if "synadb_index" in path.read_text():
        assert module_of(path) in INDEX_USERS


def test_the_index_crate_opens_no_file() -> None:
    folder = ROOT / "rust" / "synadb-index" / "src"
    files = [path for path in sources(".rs") if path.is_relative_to(folder)]
    assert files
    assert not [name(p) for p in files if re.search(r"\bstd::fs\b|\bFile::open\b", p.read_text())]


STANDARD = sys.stdlib_module_names | {"synadb", "__future__"}
NUMPY_AT_IMPORT = {"synadb/demo.py", "synadb/testing.py"}


def top_level_imports(path: Path) -> set[str]:
    """Packages that a module loads when it is imported."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add("synadb" if node.level else (node.module or "").split(".")[0])
    return found


def test_the_package_imports_only_the_standard_library() -> None:
    for path in sources(".py"):
        if path.is_relative_to(ROOT / "synadb"):
            allowed = STANDARD | ({"numpy"} if name(path) in NUMPY_AT_IMPORT else set())
            assert top_level_imports(path) <= allowed, name(path)


def test_import_loads_not_even_numpy() -> None:
    script = (
        "import sys, synadb\n"
        "heavy = {'numpy', 'torch', 'tensorflow', 'jax', 'faiss', 'flask', 'tqdm'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_native_module_is_imported_only_inside_the_package() -> None:
    wanted = re.compile(r"^\s*(?:from|import) synadb\._native\b", re.MULTILINE)
    users = [name(path) for path in sources(".py") if wanted.search(path.read_text())]
    assert all(user.startswith(("synadb/", "tests/")) for user in users)
