"""The shared counters of sync_shim.so."""

import mmap
import os
import struct

from cluster import program

FIELDS = ("commits", "syncs", "hold", "delay_us", "fail", "lose", "table_delay_us")


class Shim:
    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(8 * len(FIELDS)))
        fd = os.open(path, os.O_RDWR)
        self.map = mmap.mmap(fd, 8 * len(FIELDS))
        os.close(fd)
        self.env = {"LD_PRELOAD": os.path.abspath(program("tests/system/sync_shim.so")),
                    "TL_SHIM": path}

    def get(self, name):
        return struct.unpack_from("=Q", self.map, 8 * FIELDS.index(name))[0]

    def set(self, name, value):
        struct.pack_into("=Q", self.map, 8 * FIELDS.index(name), value)
