// What every workload has: numbers from the command line, a fixed pseudo-random sequence, a checksum, and last lines.
//
// The checksum on standard output is the same under every allocator; standard error says what is resident at the end.
#pragma once

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The number at this place of the command line; ends the program without it.
inline uint64_t number(int count, char** words, int place) {
    char* end = nullptr;
    uint64_t value = place < count ? strtoull(words[place], &end, 10) : 0;
    if (end == nullptr || *end != 0 || value == 0) {
        fprintf(stderr, "%s: argument %d must be a number above 0\n", words[0], place);
        exit(2);
    }
    return value;
}

// xorshift64*: fast, and the same everywhere.
struct Random {
    uint64_t state;
    explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15ull + 0x1234567) {
        for (int i = 0; i < 4; i++) next();
    }
    uint64_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Dull;
    }
    // From 0 to limit - 1.
    uint64_t below(uint64_t limit) { return ((next() >> 32) * limit) >> 32; }
    // From low to high, small ones as often as large ones: each doubling has the same chance.
    uint64_t size(unsigned low_bits, unsigned high_bits) {
        uint64_t base = 1ull << (low_bits + below(high_bits - low_bits));
        return base + below(base);
    }
};

inline uint64_t mix(uint64_t sum, uint64_t value) { return (sum ^ value) * 0x100000001B3ull; }

inline void* checked(void* block) {
    if (block == nullptr) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return block;
}

// A block that is written at both ends and on every page, as by a program that uses it.
inline unsigned char* filled(size_t size, unsigned char stamp) {
    auto* block = static_cast<unsigned char*>(checked(malloc(size)));
    for (size_t at = 0; at < size; at += 4096) block[at] = stamp;
    block[size - 1] = stamp;
    return block;
}

inline void finish(uint64_t checksum) {
    printf("checksum %016llx\n", static_cast<unsigned long long>(checksum));
    fflush(stdout);
    char text[128] = {};
    int file = open("/proc/self/statm", O_RDONLY);
    unsigned long long pages = 0;
    if (file >= 0 && read(file, text, sizeof text - 1) > 0) sscanf(text, "%*u %llu", &pages);
    if (file >= 0) close(file);
    fprintf(stderr, "resident %llu KiB\n", pages * (sysconf(_SC_PAGESIZE) / 1024));
}
