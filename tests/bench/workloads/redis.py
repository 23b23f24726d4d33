"""A Redis server under the allocator, filled and changed over a socket by this script, which isn't under it.

    redis.py KEYS CHANGES

Writes what the server took to the file that BENCH_RESULT names, as `launch` does.
"""
import hashlib
import os
import random
import sys
import time

sys.dont_write_bytecode = True
from redis_server import Server

keys, changes = int(sys.argv[1]), int(sys.argv[2])
start = time.monotonic()
server = Server("--enable-debug-command", "yes")


def send(batch):
    server.send(batch)
    return [server.answers.readline() for _ in batch]


sequence = random.Random(1)
count = 0
batch = []
for i in range(keys + changes):
    key = b"key:%d" % (i if i < keys else sequence.randrange(keys))
    kind = sequence.randrange(8)
    size = sequence.randrange(1, 16) ** 2 * 4
    if i < keys or kind < 5:
        batch.append([b"SET", key, b"x" * size])
    elif kind == 5:
        batch.append([b"DEL", key])
    elif kind == 6:
        batch.append([b"HSET", b"hash:%d" % sequence.randrange(2000), key, b"y" * (size // 4)])
    else:
        batch.append([b"RPUSH", b"list:%d" % sequence.randrange(2000), b"z" * (size // 8)])
    if len(batch) == 64:
        count += len(send(batch))
        batch = []
count += len(send(batch)) if batch else 0
digest = send([[b"DEBUG", b"DIGEST"]])[0]
status, usage = server.stop()
wall = time.monotonic() - start
with open(os.environ["BENCH_RESULT"], "w") as result:
    cpu = usage.ru_utime + usage.ru_stime
    print(int(cpu * 1e6), int(wall * 1e6), usage.ru_maxrss, status, file=result)
print("checksum", hashlib.sha256(b"%d" % count + digest).hexdigest()[:16])
