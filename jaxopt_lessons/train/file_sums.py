"""Checksums of the files of a checkpoint: what was lost, cut or changed shows before it is read.

    b1946ac9 2283 arrays/_METADATA        CRC-32, bytes and name of each file
    ...
    5f2c1a00                              CRC-32 of the lines above

The libraries below do not see to all of it: a bit that flips in an array of a megabyte is read as another number.
Checksums find accidents. Who changes a file on purpose can change its checksum too, and against that helps that nothing
in a checkpoint is ever executed.

In a run of several processes all call these functions, and each reads its share of the files.
"""

import re
import stat
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxopt_lessons.train import hosts

NAME = "checksums.txt"
LINE = re.compile(r"([0-9a-f]{8}) (\d{1,18}) ([^\n]+)")
PIECE = 2**20


class Sum(NamedTuple):
    """What a file should be."""

    name: str
    crc: int
    size: int


def write(directory: Path) -> None:
    """Sums up all files below a directory, in one more file."""
    path = directory / NAME
    if hosts.is_main():
        names = (file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file())
        path.write_text("\n".join(sorted(set(names) - {NAME})), encoding="utf-8")
    hosts.wait_for_all("the files are listed")
    names = path.read_text(encoding="utf-8").split("\n")
    sums = np.zeros(len(names), np.uint32)
    for i in hosts.share(len(names)):
        sums[i] = _crc(directory / names[i])
    sums = hosts.total(sums)
    if hosts.is_main():
        lines = [
            f"{crc:08x} {(directory / name).stat().st_size} {name}\n" for crc, name in zip(sums, names, strict=True)
        ]
        path.write_text(f"{''.join(lines)}{_crc_of_lines(lines):08x}\n", encoding="utf-8")


def problems(directory: Path) -> list[str]:
    """What is wrong with the files, in words, one for each.

    Raises:
      FileNotFoundError: there are no checksums.
    """
    known = _known(bytes_of(directory / NAME))
    if known is None:
        return [f"{NAME} is not as it was written"]
    found = [_problem(directory, one) for one in known]
    changed = np.zeros(len(known), np.uint32)
    for i in hosts.share(len(known)):
        changed[i] = found[i] is not None or _crc(directory / known[i].name) != known[i].crc
    changed = hosts.total(changed)
    return [
        problem or f"{one.name} is not as it was written"
        for one, problem, is_changed in zip(known, found, changed, strict=True)
        if is_changed
    ]


def bytes_of(path: Path) -> bytes:
    """What is in a file.

    Raises:
      OSError: it is missing, or no file: a pipe or a device would be read for ever.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, or no file.")
    return path.read_bytes()


def _known(contents: bytes) -> list[Sum] | None:
    """The sums in the file; None if it is damaged, or names a file that is not inside the directory."""
    lines = contents.decode("utf-8", "replace").splitlines(keepends=True)
    if not lines or lines.pop() != f"{_crc_of_lines(lines):08x}\n":
        return None
    matches = [LINE.fullmatch(line.removesuffix("\n")) for line in lines]
    sums = [Sum(match[3], int(match[1], 16), int(match[2])) for match in matches if match]
    inside = all(
        not PurePosixPath(one.name).is_absolute() and ".." not in PurePosixPath(one.name).parts for one in sums
    )
    return sums if inside and len(sums) == len(lines) else None


def _problem(directory: Path, known: Sum) -> str | None:
    """What can be told of a file without reading it, which is no pipe and no device then."""
    try:
        status = (directory / known.name).stat()
    except (OSError, ValueError):
        return f"{known.name} is missing"
    if not stat.S_ISREG(status.st_mode):
        return f"{known.name} is not a file"
    if status.st_size != known.size:
        return f"{known.name} has {status.st_size} bytes, not {known.size}"
    return None


def _crc(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            crc = zlib.crc32(piece, crc)
    return crc


def _crc_of_lines(lines: list[str]) -> int:
    return zlib.crc32("".join(lines).encode())
