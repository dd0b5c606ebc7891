"""test/shim/shim.c for a cluster: compiled, preloaded, and told what is to fail."""

import contextlib
import os
import shutil
import struct
import subprocess
import tempfile

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shim", "shim.c")


class Shim:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sequin_shim_", dir="/tmp")
        library = os.path.join(self.dir, "shim.so")
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-Wall", "-o", library, SOURCE, "-ldl"], check=True)
        self.set_clock(0)
        self.env = {"SHIM_DIR": self.dir, "LD_PRELOAD": library}

    def set_clock(self, seconds):
        """By how much the cluster's wall clock is off, from now on; written in place: it is mapped."""
        path = os.path.join(self.dir, "clock")
        with open(path, "r+b" if os.path.exists(path) else "wb") as f:
            f.write(struct.pack("<q", int(seconds * 1000000)))

    @contextlib.contextmanager
    def failing(self, what):
        path = os.path.join(self.dir, what)
        with open(path, "w", encoding="ascii"):
            pass
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)
