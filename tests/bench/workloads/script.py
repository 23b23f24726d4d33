"""Objects, strings, dictionaries and lists in Python; run with PYTHONMALLOC=malloc, so that each is a block.

    script.py ROUNDS
"""
import hashlib
import json
import sys


class Node:
    def __init__(self, key, left, right):
        self.key, self.left, self.right = key, left, right


def tree(low, high):
    if low >= high:
        return None
    middle = (low + high) // 2
    return Node("key-%d" % middle, tree(low, middle), tree(middle + 1, high))


def total(node):
    return 0 if node is None else len(node.key) + total(node.left) + total(node.right)


digest = hashlib.sha256()
for round_ in range(int(sys.argv[1])):
    words = {}
    for i in range(4000):
        words.setdefault("w%d" % (i * i % 997), []).append((i, str(i)))
    text = json.dumps({key: value for key, value in sorted(words.items())})
    back = json.loads(text)
    digest.update(("%d %d %d" % (len(text), len(back), total(tree(0, 3000)))).encode())
    digest.update(",".join(sorted(w.upper() for w in words)).encode())
print("checksum", digest.hexdigest()[:16])
