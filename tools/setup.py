#!/usr/bin/env python3
"""Set up what the Makefile's targets need: uv, an environment, pinned packages, the extension.

Needs Python 3.11 or later with pip, a C compiler and a Rust toolchain. Everything is installed
below the repository (.tools, .venv, .bench); a second run with nothing changed returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BENCH = ROOT / ".bench"
PYTHON_MIN = (3, 11)


def fail(message: str) -> None:
    """Print one line that says what is missing, and leave."""
    print("setup: " + message, file=sys.stderr)
    raise SystemExit(1)


def say(message: str) -> None:
    """Print what is being done."""
    print("setup: " + message, flush=True)


def check_machine() -> None:
    """Refuse early, and clearly, where a compiler or a recent Python is missing."""
    if sys.version_info < PYTHON_MIN:
        fail(f"Python 3.11 or later is needed, this is {sys.version.split()[0]}")
    compiler = os.environ.get("CC", "").split()[:1] or ["cc"]
    if not any(shutil.which(name) for name in [*compiler, "gcc", "clang"]):
        fail("no C compiler found: install cc, gcc or clang, or name one in CC")
    if not shutil.which("cargo"):
        fail("no Rust toolchain found: cargo is not on the PATH (Rust 1.89 or later)")


def digest(paths: list[Path]) -> str:
    """A checksum over the names and contents of files, and over the Python that is used."""
    total = hashlib.sha256(sys.version.encode())
    for path in paths:
        total.update(str(path.relative_to(ROOT)).encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def is_done(stamp: Path, wanted: str) -> bool:
    """Whether the stamp of an earlier run carries the wanted checksum."""
    return stamp.is_file() and stamp.read_text(encoding="ascii").strip() == wanted


def environment_of_commands() -> dict[str, str]:
    """The environment, in which nothing downloads an interpreter or a toolchain."""
    environment = dict(os.environ, UV_PYTHON_DOWNLOADS="never", RUSTUP_AUTO_INSTALL="0")
    environment.pop("PYTHONHOME", None)
    return environment


def run(command: list[str], **extra: str) -> None:
    """Run a command with the environment of the set-up; leave with its status where it fails."""
    environment = environment_of_commands() | extra
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status:
        fail(f"failed with status {status}: {' '.join(command)}")


def find_uv() -> str:
    """The uv on the PATH, or the pinned one, fetched into .tools where it is missing."""
    found = shutil.which("uv")
    if found:
        return found
    target = TOOLS / "uv-pkg"
    private = target / "bin" / "uv"
    stamp = TOOLS / "uv.stamp"
    pins = ROOT / "requirements" / "uv.txt"
    wanted = digest([pins])
    if not (private.exists() and is_done(stamp, wanted)):
        say("fetching uv into .tools")
        shutil.rmtree(target, ignore_errors=True)
        TOOLS.mkdir(exist_ok=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(
            [*pip, "--no-deps", "--require-hashes", "--target", str(target), "-r", str(pins)],
            PIP_BREAK_SYSTEM_PACKAGES="1",
            PIP_ROOT_USER_ACTION="ignore",
        )
        stamp.write_text(wanted, encoding="ascii")
    return str(private)


def make_environment(uv: str) -> None:
    """Create .venv with exactly the packages of requirements/core.txt."""
    pins = ROOT / "requirements" / "core.txt"
    stamp = VENV / "core.stamp"
    wanted = digest([pins])
    if PYTHON.exists() and is_done(stamp, wanted):
        return
    say("making .venv from requirements/core.txt")
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
    run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(PYTHON), str(pins)])
    stamp.write_text(wanted, encoding="ascii")


def build_extension(uv: str) -> None:
    """Build synadb._native in release mode into the environment, where a source has changed."""
    sources = [
        p for p in (ROOT / "rust").rglob("*") if p.suffix in {".rs", ".toml"} and p.is_file()
    ]
    sources += [ROOT / name for name in ("Cargo.toml", "Cargo.lock", "pyproject.toml")]
    stamp = VENV / "native.stamp"
    wanted = digest(sorted(sources))
    if any((ROOT / "synadb").glob("_native*.so")) and is_done(stamp, wanted):
        return
    say("building the extension (the first time takes some minutes)")
    run(
        [str(VENV / "bin" / "maturin"), "develop", "--release", "--locked", "--uv", "--quiet"],
        VIRTUAL_ENV=str(VENV),
        PATH=os.pathsep.join([str(Path(uv).parent), str(VENV / "bin"), os.environ["PATH"]]),
    )
    stamp.write_text(wanted, encoding="ascii")


def install_peers(uv: str) -> None:
    """Install the peers of the key-value benchmarks, and the original synadb, in .bench.

    The original shares its import name with ours, so each set has a folder of its own that the
    benchmarks put on the path of a child process.
    """
    for name in ("bench", "original"):
        pins = ROOT / "requirements" / (name + ".txt")
        why = install_apart(uv, pins, BENCH / name)
        if why:
            fail(f"requirements/{name}.txt could not be installed: {why}")


def install_vector_peers(uv: str) -> None:
    """Install each peer of the vector benchmark into a folder of its own: their pins disagree.

    One that cannot be installed here leaves a note, `NAME.missing`, that the benchmark prints;
    the next set-up tries again.
    """
    for pins in sorted((ROOT / "requirements" / "vectors").glob("*.txt")):
        target = BENCH / "vectors" / pins.stem
        note = target.with_name(pins.stem + ".missing")
        note.unlink(missing_ok=True)
        why = install_apart(uv, pins, target)
        if why:
            say(f"{pins.stem} is missing: {why}")
            note.write_text(why + "\n", encoding="utf-8")


def install_apart(uv: str, pins: Path, target: Path) -> str | None:
    """Install a requirements file into a folder; what went wrong, or `None`."""
    stamp = target.with_name(target.name + ".stamp")
    wanted = digest([pins])
    if target.is_dir() and is_done(stamp, wanted):
        return None
    say(f"installing {pins.relative_to(ROOT)} into {target.relative_to(ROOT)}")
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    install = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(PYTHON)]
    done = subprocess.run(
        [*install, "--target", str(target), "-r", str(pins)],
        cwd=ROOT,
        env=environment_of_commands(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(target, ignore_errors=True)
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return (lines or [f"status {done.returncode}"])[0][:300]
    stamp.write_text(wanted, encoding="ascii")
    return None


def main() -> None:
    """Parse the command line and set up what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-build", action="store_true", help="leave the extension alone")
    parser.add_argument("--peers", action="store_true", help="also install the benchmarks' peers")
    parser.add_argument(
        "--vector-peers", action="store_true", help="also install the vector benchmark's peers"
    )
    options = parser.parse_args()
    check_machine()
    uv = find_uv()
    make_environment(uv)
    if not options.no_build:
        build_extension(uv)
    if options.peers:
        install_peers(uv)
    if options.vector_peers:
        install_vector_peers(uv)


if __name__ == "__main__":
    main()
