"""A Redis server that is filled, halved, rewritten with other sizes, left alone, all but emptied and left alone again.

    redis_frag.py KEYS IDLE

KEYS keys are written (1 000 000 are 600 MiB of payload), IDLE is in seconds. The server runs under the allocator, this
script doesn't. Prints one JSON object: resident memory and what Redis counts after each phase, and what the server took.
The requests are the same for every allocator.
"""
import json
import os
import random
import sys
import time

sys.dont_write_bytecode = True
from redis_server import Server

KEYS, IDLE = int(sys.argv[1]), float(sys.argv[2])
PAYLOAD = os.urandom(1 << 16)
chance = random.Random(7)
server = Server()


def answer():
    """One reply, as far as its kinds are met here."""
    line = server.answers.readline()
    if line[:1] == b"$":
        return server.answers.read(int(line[1:]) + 2)
    if line[:1] not in (b"+", b":"):
        sys.exit("redis answered %r" % line)
    return line


class Batch:
    """Requests on their way, 200 at a time."""
    sent = 0

    def __init__(self):
        self.requests = []

    def add(self, *words):
        self.requests.append(words)
        if len(self.requests) == 200:
            self.flush()

    def flush(self):
        server.send(self.requests)
        for _ in self.requests:
            answer()
        Batch.sent += len(self.requests)
        self.requests = []


def size():
    kind = chance.random()
    low, high = (16, 128) if kind < 0.6 else (128, 1024) if kind < 0.9 else (1024, 4096) if kind < 0.99 else (4096, 32768)
    return chance.randrange(low, high)


def value(length):
    start = chance.randrange(len(PAYLOAD) - length)
    return PAYLOAD[start:start + length]


def write(batch, number, factor):
    """A string, or a hash or a list of eight parts; which one follows from the key."""
    key, kind, length = b"key:%d" % number, number % 20, int(size() * factor)
    parts = [value(length // 8 or 1) for _ in range(8)] if kind < 2 else []
    if kind == 0:
        batch.add(b"HSET", key, *(word for at, part in enumerate(parts) for word in (b"field%d" % at, part)))
    elif kind == 1:
        batch.add(b"RPUSH", key, *parts)
    else:
        batch.add(b"SET", key, value(length))


def delete(keys):
    batch = Batch()
    for number in keys:
        batch.add(b"DEL", b"key:%d" % number)
    batch.flush()


def status(name):
    """The number after NAME in the server's /proc status, in bytes."""
    with open("/proc/%d/status" % server.pid) as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


phases = []
start = time.monotonic()


def phase(name):
    server.send([(b"INFO", b"memory")])
    used = next(int(line[12:]) for line in answer().split(b"\r\n") if line.startswith(b"used_memory:"))
    phases.append({"phase": name, "resident": status("VmRSS:"), "used": used})


def idle(name):
    global start
    rest = time.monotonic()
    time.sleep(IDLE)
    start += time.monotonic() - rest
    phase(name)


batch = Batch()
for number in range(KEYS):
    write(batch, number, 1.0)
batch.flush()
phase("load")

alive = list(range(KEYS))
chance.shuffle(alive)
delete(alive[KEYS // 2:])
del alive[KEYS // 2:]
phase("delete half")

batch = Batch()
for number in alive[:KEYS // 4]:
    batch.add(b"DEL", b"key:%d" % number) if number % 20 < 2 else None
    write(batch, number, 1.37)
for number in range(KEYS, KEYS + KEYS // 4):
    write(batch, number, 0.71)
    alive.append(number)
batch.flush()
phase("rewrite")
idle("idle")

chance.shuffle(alive)
delete(alive[len(alive) // 20:])
phase("delete 95%")
idle("idle again")

wall = time.monotonic() - start
status, usage = server.stop()
if status != 0:
    sys.exit("redis-server ended with %d" % status)
print(json.dumps({
    "phases": phases, "commands": Batch.sent, "seconds": wall,
    "user": usage.ru_utime, "system": usage.ru_stime,
}))
