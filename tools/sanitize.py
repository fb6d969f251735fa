"""Runs the Rust tests under the address sanitizer, where a nightly compiler is installed.

The standard library comes without instrumentation, for its source may be missing: what happens
within it is not seen. That is why the thread sanitizer is not run: it does not see the contended
half of the standard mutex, and reports what lies behind one as a race.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"
FLAGS = {
    "RUSTFLAGS": "-Zsanitizer=address",
    # Maps outlive the tests on purpose.
    "ASAN_OPTIONS": "detect_leaks=0",
    "CARGO_TARGET_DIR": str(ROOT / "target" / "sanitize"),
    # Some wait for threads that give way to all others: several tests at once would starve these.
    "RUST_TEST_THREADS": "1",
}
# No examples of the documentation: rustdoc links them without the sanitizer, and none would start.
PACKAGES = [
    ["-p", "synadb-storage", "-p", "synadb-index", "-p", "synadb-types", "--lib", "--tests"],
    ["-p", "synadb", "--lib", "--tests"],
]


def main() -> int:
    """Runs all of it; the status of the first run that fails."""
    found = subprocess.run(["rustc", "+nightly", "--version"], check=False, capture_output=True)
    if found.returncode != 0:
        print("sanitize: no nightly compiler is installed, and the sanitizer needs one")
        return 1
    for packages in PACKAGES:
        command = ["cargo", "+nightly", "test", "--locked", "--target", TARGET, *packages]
        print(f"sanitize: {' '.join(command)}", flush=True)
        done = subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, **FLAGS})
        if done.returncode != 0:
            print("sanitize: found something")
            return done.returncode
    print("sanitize: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
