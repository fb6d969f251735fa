"""Stops a child at each of its system calls that touch a file, so that it can be killed just there.

Linux hands the calls of a process to another one with `SECCOMP_RET_USER_NOTIF`: who listens lets
a call go on, or kills the caller before it is made.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NamedTuple

CALLS = {
    "x86_64": {
        "fallocate": 285, "pwrite64": 18, "fdatasync": 75, "fsync": 74, "ftruncate": 77,
        "rename": 82, "renameat2": 316, "unlink": 87, "openat": 257, "fcntl": 72,
        "fchmod": 91, "close": 3,
    },
    "aarch64": {
        "fallocate": 47, "pwrite64": 68, "fdatasync": 83, "fsync": 82, "ftruncate": 46,
        "renameat": 38, "renameat2": 276, "unlinkat": 35, "openat": 56, "fcntl": 25,
        "fchmod": 52, "close": 57,
    },
}  # fmt: skip
"""Numbers of the calls that are handed over, by machine."""
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_NEW_LISTENER = 1 << 3
_RECEIVE, _SEND, _CONTINUE = 0xC0502100, 0xC0182101, 1
_NO_NEW_PRIVILEGES = 38
HUNG_S = 60.0
"""Seconds without a call after which a child counts as hung."""


class Child(NamedTuple):
    """How a child ended, and which calls it had made or, last, was killed at."""

    calls: list[str]
    was_killed: bool


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte),
        ("no", ctypes.c_ubyte), ("value", ctypes.c_uint32),
    )  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def missing() -> str | None:
    """Why this machine cannot hand calls over, `None` where it can."""
    if platform.machine() not in CALLS:
        return f"the numbers of the system calls of {platform.machine()} are not known here"
    try:
        run_killing(lambda: None, None)
    except OSError as error:
        return f"seccomp cannot hand over system calls: {error}"
    return None


def run_killing(act: Callable[[], object], at: int | None, prepare: object = None) -> Child:
    """Runs `act` in a forked child and kills that before its call number `at`.

    `prepare`, a callable, runs in the child first, and its calls go uncounted; what it returns is
    the argument of `act`. A child that raises fails here.
    """
    ours, theirs = socket.socketpair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        ours.close()
        _run_child(act, prepare, theirs)
    theirs.close()
    try:
        with ours:
            return _supervise(pid, ours, at)
    finally:
        if not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run_child(act: Callable[..., object], prepare: object, theirs: socket.socket) -> None:
    try:
        arguments = [prepare()] if callable(prepare) else []
        _hand_over(theirs)
        _kept = act(*arguments)
    except BaseException as error:
        if isinstance(error, OSError) and not arguments:
            os._exit(error.errno or 1)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)

    os._exit(0)


def _hand_over(to: socket.socket) -> None:
    """From here on the calls of this thread, and of those it starts, wait for who listens."""
    machine = platform.machine()
    numbers = sorted(CALLS[machine].values())
    code = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _AUDIT[machine]), (_RETURN, 0, 0, _ALLOW)]
    code.append((_LOAD, 0, 0, 0))
    for index, number in enumerate(numbers):
        code.append((_JUMP_EQUAL, len(numbers) - index, 0, number))
    code += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]
    instructions = (_Instruction * len(code))(*code)
    program = _Program(len(code), ctypes.cast(instructions, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no new privileges")
    listener = libc.syscall(_SECCOMP[machine], 1, _NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "the filter is refused")
    socket.send_fds(to, [b"x"], [listener])


def _supervise(pid: int, ours: socket.socket, at: int | None) -> Child:
    data, listeners, _, _ = socket.recv_fds(ours, 1, 1)
    if not data:
        raise OSError(_exit_code(pid), "the child had no filter")
    names = {number: name for name, number in CALLS[platform.machine()].items()}
    calls: list[str] = []
    listener = listeners[0]
    ended = os.pidfd_open(pid)
    try:
        while True:
            ready = select.select([listener, ended], [], [], HUNG_S)[0]
            assert ready, f"the child hangs after {calls[-3:]}"
            if ended in ready:
                break
            asked = bytearray(80)
            if not _ioctl(listener, _RECEIVE, asked):
                continue
            identifier, _, _, number = struct.unpack_from("<QIIi", asked)
            calls.append(names[number])
            if at is not None and len(calls) > at:
                os.kill(pid, signal.SIGKILL)
                select.select([ended], [], [], HUNG_S)
                return Child(calls, was_killed=True)
            _ioctl(listener, _SEND, bytearray(struct.pack("<QqiI", identifier, 0, 0, _CONTINUE)))
    finally:
        os.close(listener)
        os.close(ended)
    code = _exit_code(pid)
    assert code == 0, f"the child ended with {code} after {calls[-3:]}"
    return Child(calls, was_killed=False)


def _exit_code(pid: int) -> int:
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return ended.si_status if ended else 1


def _ioctl(descriptor: int, request: int, argument: bytearray) -> bool:
    """False where the caller is gone."""
    try:
        fcntl.ioctl(descriptor, request, argument)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return False
        raise
    return True
