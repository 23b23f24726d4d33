"""A Redis server under the allocator, filled and changed over a socket by this script, which isn't under it.

    redis.py KEYS CHANGES

Writes what the server took to the file that BENCH_RESULT names, as `launch` does.
"""
import hashlib
import os
import random
import socket
import sys
import tempfile
import time

keys, changes = int(sys.argv[1]), int(sys.argv[2])
directory = tempfile.mkdtemp(prefix="heapsift-bench-")
path = directory + "/redis.sock"
environment = dict(os.environ)
if environment.get("BENCH_PRELOAD"):
    environment["LD_PRELOAD"] = environment["BENCH_PRELOAD"]
words = ["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", path, "--dir", directory]
start = time.monotonic()
with open(os.devnull, "w") as nowhere:
    files = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)]
    server = os.posix_spawnp("redis-server", words + ["--enable-debug-command", "yes"], environment, file_actions=files)
connection = socket.socket(socket.AF_UNIX)
for _ in range(500):
    try:
        connection.connect(path)
        break
    except OSError:
        time.sleep(0.01)
answers = connection.makefile("rb")


def send(batch):
    connection.sendall(b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words) for words in batch))
    return [answers.readline() for _ in batch]


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
connection.sendall(b"DEBUG DIGEST\r\n")
digest = answers.readline()
connection.sendall(b"SHUTDOWN NOSAVE\r\n")
_, status, usage = os.wait4(server, 0)
wall = time.monotonic() - start
os.rmdir(directory) if not os.listdir(directory) else None
with open(os.environ["BENCH_RESULT"], "w") as result:
    cpu = usage.ru_utime + usage.ru_stime
    print(int(cpu * 1e6), int(wall * 1e6), usage.ru_maxrss, os.waitstatus_to_exitcode(status), file=result)
print("checksum", hashlib.sha256(b"%d" % count + digest).hexdigest()[:16])
