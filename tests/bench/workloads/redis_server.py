"""A Redis server under the allocator, for scripts that are not under it; see `BENCH_PRELOAD`."""
import os
import socket
import tempfile
import time


class Server:
    """A server without files of its own, and a connection to it; `more` are words of its command line."""

    def __init__(self, *more):
        self.directory = tempfile.mkdtemp(prefix="heapsift-bench-")
        path = self.directory + "/redis.sock"
        environment = dict(os.environ)
        if environment.get("BENCH_PRELOAD"):
            environment["LD_PRELOAD"] = environment["BENCH_PRELOAD"]
        words = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", path]
        words += ["--dir", self.directory, *more]
        with open(os.devnull, "w") as nowhere:
            files = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
            self.pid = os.posix_spawnp("redis-server", words, environment, file_actions=files)
        self.connection = socket.socket(socket.AF_UNIX)
        for _ in range(500):
            try:
                self.connection.connect(path)
                break
            except OSError:
                time.sleep(0.01)
        self.answers = self.connection.makefile("rb")

    def send(self, requests):
        """Sends requests, each a sequence of words."""
        self.connection.sendall(b"".join(
            b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            for words in requests))

    def stop(self):
        """Ends it; its exit status, and what it took."""
        self.send([(b"SHUTDOWN", b"NOSAVE")])
        _, status, usage = os.wait4(self.pid, 0)
        if not os.listdir(self.directory):
            os.rmdir(self.directory)
        return os.waitstatus_to_exitcode(status), usage
