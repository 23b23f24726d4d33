// The fast paths of an allocator, one pattern a run, counted by callgrind.
//
// Usage: driver PATTERN WARM COUNT SEGMENTS
//
// Runs WARM operations uncounted, then SEGMENTS times COUNT operations, each segment between a "zero" and a "dump"
// request to callgrind. So start-up, warm-up and exit are in none of the counts, and dividing a segment by COUNT gives
// instructions for each operation, harness included. Without valgrind the requests do nothing, and the program prints
// the nanoseconds of the fastest segment.
//
// Compile with -fno-builtin, or the compiler removes the pairs.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <valgrind/callgrind.h>

namespace {

constexpr int kBatch = 512;

void *g_blocks[kBatch];
uint16_t g_sizes[kBatch];
uint16_t g_order[kBatch];

// Makes the compiler believe that somebody looks at the pointer; no instruction.
inline void escape(void *pointer) { asm volatile("" : : "r"(pointer) : "memory"); }

// One round of a pattern is `Rounds::per_round` operations, so that sizes and orders can be laid out in tables.
using Round = void (*)(long rounds);

void pair_16_128(long rounds) {
    for (long i = 0; i < rounds; i++) {
        void *block = malloc(16 + ((i & 7) << 4));
        escape(block);
        free(block);
    }
}

template <size_t Size> void pair(long rounds) {
    for (long i = 0; i < rounds; i++) {
        void *block = malloc(Size);
        escape(block);
        free(block);
    }
}

template <size_t Size> void zeroed(long rounds) {
    for (long i = 0; i < rounds; i++) {
        void *block = calloc(1, Size);
        escape(block);
        free(block);
    }
}

void sized_16_128(long rounds) {
    for (long i = 0; i < rounds; i++) {
        size_t size = 16 + ((i & 7) << 4);
        void *block = ::operator new(size);
        escape(block);
        ::operator delete(block, size);
    }
}

// 512 blocks of 64 bytes, freed in the order in which they came.
void batch_in_order(long rounds) {
    for (long i = 0; i < rounds; i++) {
        for (int k = 0; k < kBatch; k++) g_blocks[k] = malloc(64);
        escape(g_blocks);
        for (int k = 0; k < kBatch; k++) free(g_blocks[k]);
    }
}

// 512 blocks of 1 to 1024 bytes, freed in an order without order; the same sizes and the same order each time.
void batch_shuffled(long rounds) {
    for (long i = 0; i < rounds; i++) {
        for (int k = 0; k < kBatch; k++) g_blocks[k] = malloc(g_sizes[k]);
        escape(g_blocks);
        for (int k = 0; k < kBatch; k++) free(g_blocks[g_order[k]]);
    }
}

// A buffer that doubles from 16 bytes to 4 KiB: malloc, eight times realloc, free.
void regrow(long rounds) {
    for (long i = 0; i < rounds; i++) {
        void *block = malloc(16);
        for (size_t size = 32; size <= 4096; size <<= 1) {
            block = realloc(block, size);
            escape(block);
        }
        free(block);
    }
}

struct Pattern {
    const char *name;
    Round round;
    int per_round;
};

const Pattern kPatterns[] = {
    {"pair16-128", pair_16_128, 1}, {"pair32", pair<32>, 1},
    {"calloc64", zeroed<64>, 1},    {"sized16-128", sized_16_128, 1},
    {"batch512", batch_in_order, kBatch}, {"shuffled512", batch_shuffled, kBatch},
    {"pair16K", pair<16384>, 1},    {"pair64K", pair<65536>, 1},
    {"regrow4K", regrow, 1},
};

uint32_t g_random = 2463534242u;

uint32_t next_random() {
    g_random ^= g_random << 13;
    g_random ^= g_random >> 17;
    g_random ^= g_random << 5;
    return g_random;
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return double(time.tv_sec) * 1e9 + double(time.tv_nsec);
}

} // namespace

int main(int count, char **words) {
    if (count != 5) {
        fprintf(stderr, "usage: driver PATTERN WARM COUNT SEGMENTS\n");
        return 2;
    }
    const Pattern *pattern = nullptr;
    for (const Pattern &candidate : kPatterns)
        if (!strcmp(candidate.name, words[1])) pattern = &candidate;
    if (!pattern) {
        fprintf(stderr, "driver: no pattern %s\n", words[1]);
        return 2;
    }
    for (int k = 0; k < kBatch; k++) {
        g_sizes[k] = uint16_t(1 + next_random() % 1024);
        g_order[k] = uint16_t(k);
    }
    for (int k = kBatch - 1; k > 0; k--) {
        int other = int(next_random() % uint32_t(k + 1));
        uint16_t kept = g_order[k];
        g_order[k] = g_order[other];
        g_order[other] = kept;
    }
    long rounds = atol(words[3]) / pattern->per_round;
    pattern->round(atol(words[2]) / pattern->per_round);
    double best = 1e300;
    for (int segment = atoi(words[4]); segment > 0; segment--) {
        CALLGRIND_ZERO_STATS;
        double start = now();
        pattern->round(rounds);
        double spent = now() - start;
        CALLGRIND_DUMP_STATS;
        if (spent < best) best = spent;
    }
    char line[32];
    int length = snprintf(line, sizeof line, "%.3f\n", best / double(rounds * pattern->per_round));
    fwrite(line, 1, size_t(length), stdout);
}
