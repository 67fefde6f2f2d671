"""The EXIF orientation of JPEG files: turn photographs without touching their pixels."""

import struct

import PIL.Image

ORIENTATION = 0x0112  # EXIF tag, 1 to 8
_CLOCKWISE = {1: 6, 6: 3, 3: 8, 8: 1, 2: 7, 7: 4, 4: 5, 5: 2}
_EXIF = b"Exif\0\0"
_SHORT = 3


def turned_orientation(orientation: int, quarters: int) -> int:
    """Return the orientation that shows a photograph turned further.

    Args:
        orientation: What the file says, 1 to 8; anything else counts as 1.
        quarters: Quarter turns, counter-clockwise as displayed; any value, taken modulo 4.

    >>> turned_orientation(1, -1)  # clockwise
    6
    """
    orientation = orientation if orientation in _CLOCKWISE else 1
    for _ in range(-quarters % 4):
        orientation = _CLOCKWISE[orientation]
    return orientation


def set_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Return a JPEG file with another EXIF orientation; everything else stays as it is.

    Args:
        jpeg: The file.
        orientation: 1 to 8.

    Returns:
        The file, with two bytes changed, or with EXIF data added if it had none.

    Raises:
        ValueError: If `orientation` is out of range, or the file is not a JPEG file whose EXIF data
            can be changed.
    """
    if orientation not in _CLOCKWISE:
        raise ValueError(f"Expected `orientation` to be from 1 to 8, but got {orientation}.")
    try:
        insertion, start, end = _find_exif(jpeg)
        place = None if end == start else _find_tag(jpeg, start + 4 + len(_EXIF), end)
    except (struct.error, IndexError) as error:
        raise ValueError("Expected a whole JPEG file, but its segments end too early.") from error
    if place is not None:
        position, order = place
        return jpeg[:position] + struct.pack(order + "H", orientation) + jpeg[position + 2 :]
    exif = PIL.Image.Exif()
    if end > start:
        exif.load(jpeg[start + 4 : end])
    else:
        start = end = insertion
    exif[ORIENTATION] = orientation
    content = exif.tobytes()
    if len(content) > 0xFFFF - 2:
        raise ValueError(f"Expected EXIF data below 64 kB, but got {len(content)} bytes.")
    segment = b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content
    return jpeg[:start] + segment + jpeg[end:]


def _find_exif(jpeg: bytes) -> tuple[int, int, int]:
    """Return where EXIF data may be inserted, and where the segment that holds them lies."""
    if jpeg[:2] != b"\xff\xd8":
        raise ValueError("Expected a JPEG file, but it does not begin like one.")
    position, insertion = 2, 2
    while jpeg[position] == 0xFF and jpeg[position + 1] not in (0xDA, 0xD9):
        marker = jpeg[position + 1]
        (length,) = struct.unpack_from(">H", jpeg, position + 2)
        end = position + 2 + length
        if marker == 0xE1 and jpeg[position + 4 : end].startswith(_EXIF):
            return insertion, position, end
        if marker == 0xE0 and insertion == position:
            insertion = end  # JFIF wants to be first
        position = end
    return insertion, 0, 0


def _find_tag(jpeg: bytes, start: int, end: int) -> tuple[int, str] | None:
    """Return where the orientation is written in EXIF data, and its byte order."""
    order = {b"II": "<", b"MM": ">"}.get(jpeg[start : start + 2])
    if order is None:
        return None
    (offset,) = struct.unpack_from(order + "I", jpeg, start + 4)
    (count,) = struct.unpack_from(order + "H", jpeg, start + offset)
    for entry in range(start + offset + 2, start + offset + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", jpeg, entry)
        if (tag, kind, number) == (ORIENTATION, _SHORT, 1) and entry + 12 <= end:
            return entry + 8, order
    return None
