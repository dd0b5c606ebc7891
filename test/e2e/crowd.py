"""Threads that do something again and again until the `with` block ends."""

import threading


class Crowd:
    """A subclass has run(i), which ends soon after self.stop is set."""

    def __init__(self, n):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for t in self.threads:
            t.join()
