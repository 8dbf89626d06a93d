"""Large arrays of ``.npz`` files, mapped into memory instead of read."""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGE: Final = 2**26
"""Bytes of an array that is mapped; smaller ones are read, so that their file may be replaced."""

_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""Versions of the format; the third one is for arrays with named columns."""

_READ: Final = 2**20
_LOCAL_HEADER: Final = struct.Struct("<26x2H")
"""What precedes the name of a member in the file; its last fields are two lengths."""
_IS_ENCRYPTED: Final = 0x1


def map_member(path: Path, name: str) -> NDArray[Any] | None:
    """Return an array of a ``.npz`` file without reading it, read-only; None where that cannot be.

    An array can be mapped if it was stored without compression in C order, has no Python objects
    and at least `LARGE` bytes.

    Args:
        path: the file.
        name: of the array.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
        zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        member = _member(archive, name)
        if member is None:
            return None
        with archive.open(member) as file:
            read_header = _HEADERS.get(np.lib.format.read_magic(file))
            if read_header is None:
                return None
            shape, is_fortran, dtype = read_header(file)
            head = file.tell()
    size = math.prod(shape) * dtype.itemsize
    if is_fortran or dtype.hasobject or size < LARGE or head + size != member.file_size:
        return None
    start = _start(path, member) + head
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape))


def check_member(path: Path, name: str) -> None:
    """Read an array once to compare it with the checksum in its file.

    Raises:
        OSError: the file cannot be read.
        zipfile.BadZipFile: the checksum is another one.
    """
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        while file.read(_READ):
            pass


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo | None:
    """Return an array's member if its bytes stand in the file as they are.

    Of several members of one name, as appending leaves them, the last one counts, as for NumPy.
    """
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        return None
    is_plain = member.compress_type == zipfile.ZIP_STORED
    return member if is_plain and not member.flag_bits & _IS_ENCRYPTED else None


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Return where the content of a member begins in the file."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name: int
        extra: int
        name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return member.header_offset + _LOCAL_HEADER.size + name + extra
