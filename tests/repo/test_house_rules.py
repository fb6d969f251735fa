"""Sizes, characters, unsafe code, links and licences of the repository's files."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from repo_files import ROOT, files, name, sources

LINES_MAX = 500
FUNCTION_LINES_MAX = 70
TEXT = (".rs", ".py", ".pyi", ".toml", ".md", ".sh", ".in", ".txt", ".yml", ".yaml")

UNSAFE_FILES = {
    "rust/synadb-storage/src/region/joined.rs",
    "rust/synadb-storage/src/region/map.rs",
    "rust/synadb-storage/src/region/disk.rs",
    "rust/synadb-storage/src/lock/file.rs",
    "rust/synadb-storage/src/fork.rs",
    "rust/synadb/src/original.rs",
    "rust/synadb-index/src/distance/avx2.rs",
    "rust/synadb-index/src/distance/avx512.rs",
    "rust/synadb-index/src/hnsw/search/pool/avx512.rs",
    "rust/synadb-index/src/kmeans/dots/avx2.rs",
    "rust/synadb-index/src/kmeans/dots/avx512.rs",
    "rust/synadb-index/src/quantize/kernels/avx2.rs",
    "rust/synadb-index/src/quantize/kernels/avx512.rs",
    "rust/synadb-python/src/numpy.rs",
}
"""Where unsafe code may stand: maps, locks, forks, SIMD, NumPy's buffers, raw tensors."""

UNSAFE = re.compile(r"\bunsafe\s+(?:\{|impl\b|fn\b|extern\b|trait\b)|\bunsafe\s*\{")
COMMENT = re.compile(r"//.*")


def rust_code(path: Path) -> str:
    """The lines of a Rust file without line comments."""
    return "\n".join(COMMENT.sub("", line) for line in path.read_text().splitlines())


def test_no_source_file_is_over_500_lines() -> None:
    long = {
        name(path): count
        for path in sources(".rs", ".py", ".pyi", ".c", ".h", ".sh")
        if (count := len(path.read_text().splitlines())) > LINES_MAX
    }
    assert not long


def test_clippy_holds_functions_to_70_lines() -> None:
    limits = tomllib.loads((ROOT / "clippy.toml").read_text())
    assert limits["too-many-lines-threshold"] == FUNCTION_LINES_MAX
    lints = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["lints"]
    assert lints["clippy"]["too_many_lines"] in {"warn", "deny"}
    assert lints["clippy"]["undocumented_unsafe_blocks"] == "deny"
    assert lints["clippy"]["unwrap_used"] == "deny"
    assert lints["rust"]["unsafe_code"] == "deny"


def test_every_crate_takes_the_lints_of_the_workspace() -> None:
    manifests = [p for p in files() if p.name == "Cargo.toml" and p.parent != ROOT]
    assert manifests
    for path in manifests:
        assert tomllib.loads(path.read_text())["lints"]["workspace"] is True, name(path)


def test_python_functions_have_at_most_70_lines() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}"
        for path in sources(".py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long


def test_source_is_ascii() -> None:
    found = [name(path) for path in sources(*TEXT) if not path.read_bytes().isascii()]
    assert not found


def test_unsafe_stands_only_in_the_named_files() -> None:
    found = {name(path) for path in sources(".rs") if UNSAFE.search(rust_code(path))}
    assert found <= UNSAFE_FILES


def test_every_file_with_unsafe_code_explains_it() -> None:
    safety = (ROOT / "docs" / "safety.md").read_text()
    for path in sources(".rs"):
        count = len(UNSAFE.findall(rust_code(path)))
        if count:
            assert "// SAFETY:" in path.read_text(), name(path)
            assert name(path).removeprefix("rust/") in safety, f"{name(path)} in docs/safety.md"


LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("path", sources(".md"), ids=name)
def test_links_of_the_documents_lead_somewhere(path: Path) -> None:
    targets = (m.group(1) for m in LINK.finditer(path.read_text()))
    local = (t for t in targets if "://" not in t and not t.startswith("mailto:"))
    missing = [t for t in local if not (path.parent / t).exists()]
    assert not missing


def test_no_path_of_a_machine_and_no_registry_host() -> None:
    machine = re.compile(r"(?<![\w.$}/*-])/(?:tmp|root|home|work|Users)/[\w.-]+")
    hosts = re.compile("py" + r"pi\.org|python" + r"hosted|//crates\.io")
    found = [
        f"{name(path)}: {match.group()}"
        for path in files()
        if path.suffix in TEXT or path.name in {"Makefile", "run"}
        for match in (*machine.finditer(path.read_text()), *hosts.finditer(path.read_text()))
    ]
    assert not found


def test_requirements_are_pinned_by_hash_without_urls() -> None:
    for path in (ROOT / "requirements").rglob("*.txt"):
        text = path.read_text()
        assert not re.search(r"://|^--|\s@\s", text, re.MULTILINE), path
        pins = [line for line in text.splitlines() if re.match(r"[a-z]", line)]
        assert pins
        assert all("==" in line and line.endswith("\\") for line in pins), path
        assert text.count("--hash=sha256:") >= len(pins), path


def test_data_names_its_source_and_licence() -> None:
    for path in files():
        parts = path.relative_to(ROOT).parts
        if parts[0] != "data" or path.name == "README.md":
            continue
        readme = (path.parent / "README.md").read_text()
        row = next((line for line in readme.splitlines() if f"`{path.name}`" in line), "")
        assert row.count("|") == 5, f"{name(path)} has a row with source and licence"


def test_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert manifest["workspace"]["package"]["license"] == "Apache-2.0"


def test_nothing_is_left_for_later_without_an_issue() -> None:
    words = re.compile(r"\b(?:TO" + "DO|FIX" + r"ME)\b|\b(?:to" + "do|unimple" + r"mented)!\(")
    found = [name(path) for path in sources(".rs", ".py", ".pyi") if words.search(path.read_text())]
    assert not found
