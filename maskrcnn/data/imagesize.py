"""The size of an image file from its first bytes, so that 100,000 files can be checked in seconds."""

import struct

import cv2

# JPEG segments that hold the size: all start-of-frame markers but DHT, JPG and DAC, which share their range.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_size(path):
    """(height, width) of the pixels as stored: PNG and JPEG from the header, other formats by decoding them.

    Returns None if the file is no image. Raises OSError if it cannot be opened.
    """
    with open(path, "rb") as file:
        head = file.read(24)
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) == 24:
            width, height = struct.unpack(">II", head[16:])
            return height, width
        size = _jpeg_size(file) if head.startswith(b"\xff\xd8") else None
    if size is None:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        size = None if pixels is None else pixels.shape[:2]
    return size


def _jpeg_size(file):
    """Walks from segment to segment; None if the walk ends without a size."""
    file.seek(2)
    while True:
        marker = file.read(2)
        while marker == b"\xff\xff":  # fill bytes before a marker
            marker = b"\xff" + file.read(1)
        length = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or len(length) < 2:
            return None
        if marker[1] in _START_OF_FRAME:
            frame = file.read(5)
            return struct.unpack(">HH", frame[1:]) if len(frame) == 5 else None
        file.seek(struct.unpack(">H", length)[0] - 2, 1)
