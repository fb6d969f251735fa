"""The writer that is killed: `crash_child.py PATH SEED FIRST SYNC CHECKPOINT_BYTES`.

Does the acts of the program from number FIRST on, without an end. It says `open` before it opens
the file, `begin N` before an act, and `done N` once the act has returned.
"""

from __future__ import annotations

import os
import sys

from crash_program import Writer, act_of


def say(line: str) -> None:
    """Write a line at once; where the parent is gone this ends the child."""
    os.write(1, f"{line}\n".encode())


def main(path: str, seed: int, first: int, sync_on_write: bool, checkpoint_bytes: int) -> None:
    """Open the file and work until killed."""
    say("open")
    writer = Writer(path, sync_on_write, checkpoint_bytes)
    number = first
    while True:
        act = act_of(seed, number)
        say(f"begin {number}")
        writer.do(act)
        say(f"done {number}")
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True", int(sys.argv[5]))
