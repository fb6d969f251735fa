"""Runs the tests under the address sanitizer, where a nightly compiler is installed.

The standard library comes without instrumentation, for its source may be missing: what happens
within it is not seen. That is why the thread sanitizer is not run: it does not see the contended
half of the standard mutex, and reports what lies behind one as a race.

The extension of Python is run with the sanitizer's library that a C compiler brings: Rust's own
cannot be loaded by a process that did not begin with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
TARGET = "x86_64-unknown-linux-gnu"
SANITIZED = ROOT / "target" / "sanitize"
FLAGS = {
    # Maps outlive the tests on purpose.
    "ASAN_OPTIONS": "detect_leaks=0",
    # Some wait for threads that give way to all others: several tests at once would starve these.
    "RUST_TEST_THREADS": "1",
}
# No examples of the documentation: rustdoc links them without the sanitizer, and none would start.
PACKAGES = [
    ["-p", "synadb-storage", "-p", "synadb-index", "-p", "synadb-types", "--lib", "--tests"],
    ["-p", "synadb", "--lib", "--tests"],
]
EXTENSION_TESTS = [
    "tests/test_vector_arrays.py",
    "tests/test_joined_arrays.py",
    "tests/test_vectors.py",
    "tests/test_database.py",
    "tests/test_filters.py",
    "tests/test_hybrid.py",
    "tests/test_faiss.py",
    "tests/test_bad_arguments.py",
]
"""Those that give arrays to the extension and get arrays from it."""
MEASURES_MEMORY = "test_large_table_is_one_view_without_a_copy"
"""What was freed counts there, for the sanitizer keeps it to see who uses it still."""


def run(what: str, command: list[str], flags: dict[str, str]) -> None:
    """Runs a command; leaves with its status where it fails."""
    print(f"sanitize: {what}: {' '.join(command)}", flush=True)
    done = subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, **FLAGS, **flags})
    if done.returncode != 0:
        print("sanitize: found something")
        raise SystemExit(done.returncode)


def cargo(what: str, arguments: list[str], flags: str, target: Path) -> None:
    """Runs the nightly cargo with the sanitizer on."""
    command = ["cargo", "+nightly", *arguments, "--locked", "--target", TARGET]
    flags = f"-Zsanitizer=address {flags}".strip()
    run(what, command, {"RUSTFLAGS": flags, "CARGO_TARGET_DIR": str(target)})


def preloaded() -> str | None:
    """The sanitizer's library that the C compiler brings, and that of C++.

    With the second it finds what throws exceptions, which FAISS loads too late for it.
    """
    names = ["libasan.so", "libstdc++.so.6"]
    found = [
        subprocess.run(
            ["cc", f"-print-file-name={name}"], check=False, capture_output=True, text=True
        )
        for name in names
    ]
    paths = [Path(each.stdout.strip()) for each in found]
    return " ".join(map(str, paths)) if all(path.is_absolute() for path in paths) else None


def extension() -> None:
    """Builds the extension into a copy of the package, and runs what uses its arrays."""
    libraries = preloaded()
    if libraries is None:
        print("sanitize: the extension is left out: the C compiler brings no libasan")
        return
    target = SANITIZED / "extension"
    cargo("extension", ["build", "-p", "synadb-python"], "-Zexternal-clangrt", target)
    package = target / "package"
    shutil.rmtree(package, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "synadb", package / "synadb", ignore=ignored)
    built = target / TARGET / "debug" / "lib_native.so"
    shutil.copy(built, package / "synadb" / "_native.abi3.so")
    # Without the folder of the checkout, whose package would go before the copy.
    command = [str(PYTHON), "-P", "-m", "pytest", "-q", "-n2", "-p", "no:cacheprovider"]
    flags = {"LD_PRELOAD": libraries, "PYTHONPATH": str(package), "PYTHONMALLOC": "malloc"}
    run("extension", [*command, *EXTENSION_TESTS, "-k", f"not {MEASURES_MEMORY}"], flags)


def main() -> int:
    """Runs all of it; the status of the first run that fails."""
    found = subprocess.run(["rustc", "+nightly", "--version"], check=False, capture_output=True)
    if found.returncode != 0:
        print("sanitize: no nightly compiler is installed, and the sanitizer needs one")
        return 1
    for packages in PACKAGES:
        cargo("engine", ["test", *packages], "", SANITIZED)
    extension()
    print("sanitize: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
