"""Files of TensorFlow's records, read as they grow.

A record is its length (uint64), a checksum of these 8 bytes (uint32), as many bytes of data, and a checksum of them
(uint32), all little-endian. The checksums are CRC-32C, rotated and shifted so that one of data with checksums in it is
sound, too. (tensorflow.org/tutorials/load_data/tfrecord, tensorflow/core/lib/io/record_writer.h)
"""

import os
import struct

from bisect_cli.trainers.readers.series import thinned

HEADER, FOOTER = 12, 4
MOST_RECORD = 1 << 26  # bytes; pictures may be in one record with numbers, what is longer is passed over
MOST_CHECKED = 1 << 20  # bytes; a checksum takes a second for some 10 MiB here


def _table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # the polynomial of Castagnoli, its bits reversed
        yield byte


TABLE = tuple(_table())


def masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class RecordParser:
    """Reads whole records; `points_of(data)` says what they hold, and raises ValueError if they hold no such thing.
    Those without `mark` in them are passed over, their data's checksum unseen.

    After a damaged length nothing more can be found, so there the reading stands: at the end of a file that is being
    written it may be whole by the next look.
    """

    def __init__(self, mark):
        self.offset, self.points, self.damage = 0, [], ""
        self._mark, self._lost = mark, ""

    def read(self, descriptor, end):
        self.damage = self._lost
        while self.offset + HEADER <= end:
            size = self._size(os.pread(descriptor, HEADER, self.offset))
            following = None if size is None else self.offset + HEADER + size + FOOTER
            if following is None or following > end:
                return
            if size <= MOST_RECORD and not self._take(os.pread(descriptor, size + FOOTER, self.offset + HEADER), size):
                self.damage = self._lost = f"damaged at byte {self.offset}"
            self.offset = following

    def _size(self, header):
        """The length that a header says; None, and damage noted, if it is not sound."""
        size, crc = struct.unpack("<QI", header) if len(header) == HEADER else (0, None)
        if crc == masked_crc(header[:8]):
            return size
        self.damage = f"damaged at byte {self.offset}, nothing after it was read"
        return None

    def _take(self, record, size):
        """Whether it was sound."""
        if self._mark not in record:
            return True
        data, footer = record[:size], record[size:]
        if len(footer) < FOOTER or (size <= MOST_CHECKED and struct.unpack("<I", footer)[0] != masked_crc(data)):
            return False
        try:
            self.points += self.points_of(data)
            self.points = thinned(self.points)
        except ValueError:
            return False
        return True

    def unended(self):
        return ()

    def points_of(self, data):
        raise NotImplementedError
