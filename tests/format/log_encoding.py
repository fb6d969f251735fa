"""Checksums, numbers, compressed blocks and values, as docs/format.md has them."""

from __future__ import annotations

import struct
from typing import Any

NULL, FLOAT, INT, TEXT, BYTES, VECTOR, FLOATS = range(7)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C of `data`, or of what `crc` covers followed by `data`."""
    table, crc = _TABLE, crc ^ 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def fold16(crc: int) -> int:
    """A checksum in 16 bits."""
    return (crc ^ (crc >> 16)) & 0xFFFF


def round_up(number: int, step: int) -> int:
    """The first multiple of `step` at or behind `number`."""
    return -(-number // step) * step


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The LEB128 number at `at`, and where it ends."""
    value = 0
    for index in range(10):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + index + 1
    raise ValueError("a number of more than 64 bits")


def lz4_block(block: bytes, size: int) -> bytes:
    """An LZ4 block, decompressed; `ValueError` where it does not give `size` bytes."""
    out, at = bytearray(), 0

    def length(nibble: int) -> int:
        nonlocal at
        total = nibble
        while nibble == 15:
            total += block[at]
            at += 1
            if block[at - 1] != 255:
                break
        return total

    while at < len(block):
        token = block[at]
        at += 1
        literals = length(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at >= len(block):
            break
        back = int.from_bytes(block[at : at + 2], "little")
        at += 2
        count = length(token & 15) + 4
        if not 0 < back <= len(out):
            raise ValueError("a match before the beginning")
        start = len(out) - back
        for index in range(count):
            out.append(out[start + index])
    if len(out) != size:
        raise ValueError("another size than promised")
    return bytes(out)


def decode(tag: int, data: bytes) -> list[Any]:
    """The values of a payload: one, but for a run of floats."""
    if tag == NULL and not data:
        return [None]
    if tag in (FLOAT, INT):
        return list(struct.unpack("<d" if tag == FLOAT else "<q", data))
    if tag == TEXT:
        return [data.decode()]
    if tag == BYTES:
        return [data]
    if tag == VECTOR and data[0] == 0:
        return [list(struct.unpack(f"<{len(data) // 4}f", data[1:]))]
    if tag == FLOATS and data:
        return list(struct.unpack(f"<{len(data) // 8}d", data))
    raise ValueError("not what the tag says")
