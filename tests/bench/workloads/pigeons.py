"""Writes the problem of N + 1 pigeons in N holes, which has no solution, in SMT-LIB.

    pigeons.py N
"""
import sys

holes = int(sys.argv[1])
print("(set-logic QF_UF)")
for pigeon in range(holes + 1):
    for hole in range(holes):
        print("(declare-const p_%d_%d Bool)" % (pigeon, hole))
    print("(assert (or %s))" % " ".join("p_%d_%d" % (pigeon, hole) for hole in range(holes)))
for hole in range(holes):
    for one in range(holes + 1):
        for other in range(one):
            print("(assert (not (and p_%d_%d p_%d_%d)))" % (one, hole, other, hole))
print("(check-sat)")
