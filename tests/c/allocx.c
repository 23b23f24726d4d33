/* allocx: the functions with flags, and their macros. None of them sets errno. */
#include "check.h"
#include <heapsift/heapsift.h>

static size_t read_size(const char *name)
{
    size_t value = 0, length = sizeof value;
    uint64_t epoch = 1;
    CHECK(mallctl("epoch", NULL, NULL, &epoch, sizeof epoch) == 0);
    CHECK(mallctl(name, &value, &length, NULL, 0) == 0);
    return value;
}

static void macros(void)
{
    CHECK(MALLOCX_ALIGN(1) == 0 && MALLOCX_ALIGN(64) == 6 && MALLOCX_ALIGN((size_t)1 << 40) == 40);
    CHECK(MALLOCX_LG_ALIGN(21) == 21 && MALLOCX_ZERO == 0x40);
    CHECK(MALLOCX_TCACHE_NONE == 0x100 && MALLOCX_TCACHE(0) == 0x200 && MALLOCX_TCACHE(4093) == 0xfff00);
    CHECK(MALLOCX_ARENA(0) == 1 << 20 && (unsigned)MALLOCX_ARENA(4094) == 0xfff00000u);
    static const int constant[MALLOCX_ALIGN(4096)] = {0};
    CHECK(sizeof constant == 12 * sizeof(int));
}

static void sizes_foretold(void)
{
    struct { size_t size; int flags; size_t usable; } known[] = {
        {1, 0, 8}, {8, 0, 8}, {9, 0, 16}, {100, 0, 112}, {14336, 0, 14336}, {14337, 0, 16384}, {16385, 0, 20480},
        {100000, 0, 106496}, {100, MALLOCX_ALIGN(64), 128}, {100, MALLOCX_ALIGN(4096), 4096},
        {100, MALLOCX_ALIGN(2 << 20), 16384}, {100, MALLOCX_ZERO, 112},
    };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        void *block;
        QUIETLY(CHECK(nallocx(known[i].size, known[i].flags) == known[i].usable));
        QUIETLY(block = mallocx(known[i].size, known[i].flags));
        CHECK(block && sallocx(block, known[i].flags) == known[i].usable);
        CHECK(sallocx(block, 0) == known[i].usable);
        QUIETLY(sdallocx(block, known[i].size, known[i].flags));
    }
    size_t largest = (size_t)0x7000000000000000;
    CHECK(nallocx(largest, 0) == largest);
    QUIETLY(CHECK(nallocx(largest + 1, 0) == 0 && nallocx(most, 0) == 0));
    CHECK(nallocx(1, MALLOCX_LG_ALIGN(63)) == 0);
    CHECK(nallocx(half, MALLOCX_ALIGN(64)) == 0);
    QUIETLY(CHECK(mallocx(largest, 0) == NULL && mallocx(largest + 1, 0) == NULL && mallocx(most, MALLOCX_ZERO) == NULL));
    QUIETLY(CHECK(mallocx(1, MALLOCX_LG_ALIGN(62)) == NULL && mallocx(1, MALLOCX_LG_ALIGN(63)) == NULL));
}

static int reads_as_zero(const char *block, size_t from, size_t to)
{
    return from == to || (block[from] == 0 && memcmp(block + from, block + from + 1, to - from - 1) == 0);
}

static void clean_and_aligned(void)
{
    size_t sizes[] = {1, 100, 5000, 14336, 14337, 32768, 50000, 3 << 20};
    int caches[] = {0, MALLOCX_TCACHE_NONE, MALLOCX_ARENA(0), MALLOCX_ARENA(0) | MALLOCX_TCACHE_NONE};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned k = 0; k < sizeof caches / sizeof *caches; k++)
            for (int lg = 0; lg <= 22; lg += 2) {
                int flags = caches[k] | MALLOCX_LG_ALIGN(lg);
                char *dirty, *clean;
                QUIETLY(dirty = mallocx(sizes[i], flags));
                CHECK(dirty && (uintptr_t)dirty % ((size_t)1 << lg) == 0);
                CHECK(sallocx(dirty, flags) == nallocx(sizes[i], flags));
                memset(dirty, 0xff, sallocx(dirty, 0));
                QUIETLY(dallocx(dirty, flags));
                QUIETLY(clean = mallocx(sizes[i], flags | MALLOCX_ZERO));
                CHECK(clean && (uintptr_t)clean % ((size_t)1 << lg) == 0);
                CHECK(reads_as_zero(clean, 0, sizes[i]));
                memset(clean, 0xff, sallocx(clean, 0));
                QUIETLY(sdallocx(clean, sallocx(clean, 0), flags));
            }
}

static void resizes(void)
{
    /* Growth that must read as zero, over every border between kinds of blocks; what was there stays. */
    size_t steps[] = {1, 8, 9, 100, 130, 4096, 14336, 14337, 20000, 32768, 40000, 300000, 299000, 2 << 20, 50000, 100, 1};
    for (int lg = 0; lg <= 14; lg += 7) {
        int flags = MALLOCX_ZERO | MALLOCX_LG_ALIGN(lg);
        char *block = mallocx(steps[0], flags);
        size_t usable = sallocx(block, flags);
        memset(block, 0x5c, usable);
        for (unsigned i = 1; i < sizeof steps / sizeof *steps; i++) {
            QUIETLY(block = rallocx(block, steps[i], flags));
            CHECK(block && (uintptr_t)block % ((size_t)1 << lg) == 0);
            size_t now = sallocx(block, flags);
            CHECK(now == nallocx(steps[i], flags));
            for (size_t at = 0; at < usable && at < now; at++)
                CHECK(block[at] == 0x5c);
            if (now > usable)
                CHECK(reads_as_zero(block, usable, now));
            memset(block, 0x5c, now);
            usable = now;
        }
        dallocx(block, flags);
    }
    /* Without memory the block stays. */
    char *block = mallocx(1000, 0);
    memset(block, 'k', 1000);
    QUIETLY(CHECK(rallocx(block, most, 0) == NULL));
    QUIETLY(CHECK(rallocx(block, (size_t)0x7000000000000001, 0) == NULL));
    QUIETLY(CHECK(rallocx(block, 1000, MALLOCX_LG_ALIGN(60)) == NULL));
    for (int at = 0; at < 1000; at++)
        CHECK(block[at] == 'k');
    /* An alignment that the block happens not to have moves it. */
    void *blocks[64];
    for (int i = 0; i < 64; i++) {
        blocks[i] = mallocx(112, 0);
        QUIETLY(blocks[i] = rallocx(blocks[i], 112, MALLOCX_ALIGN(4096)));
        CHECK((uintptr_t)blocks[i] % 4096 == 0);
    }
    for (int i = 0; i < 64; i++)
        dallocx(blocks[i], 0);
    free(block);
}

static void resizes_in_place(void)
{
    /* Small blocks have the size of their class, whatever is asked for. */
    char *block = mallocx(100, 0);
    QUIETLY(CHECK(xallocx(block, 100, 0, 0) == 112 && xallocx(block, 112, 0, 0) == 112));
    QUIETLY(CHECK(xallocx(block, 200, 0, 0) == 112 && xallocx(block, 50, 0, 0) == 112));
    QUIETLY(CHECK(xallocx(block, 100, most - 100, 0) == 112));
    QUIETLY(CHECK(xallocx(block, 20000, 0, 0) == 112));
    dallocx(block, 0);
    /* Large ones shrink and may grow; the rest is as it was, and what is new reads as zero where asked. */
    size_t size = 1 << 20;
    block = mallocx(size, 0);
    memset(block, 'x', size);
    QUIETLY(size = xallocx(block, 100000, 0, 0));
    CHECK(size == 106496 && sallocx(block, 0) == size);
    for (size_t at = 0; at < size; at++)
        CHECK(block[at] == 'x');
    size_t grown;
    QUIETLY(grown = xallocx(block, 400000, 0, MALLOCX_ZERO));
    CHECK((grown == 401408 || grown == size) && sallocx(block, 0) == grown);
    CHECK(reads_as_zero(block, size, grown));
    for (size_t at = 0; at < size; at++)
        CHECK(block[at] == 'x');
    /* At least the size if it can be, the extra when there is room; never too much. */
    QUIETLY(size = xallocx(block, grown, 1 << 20, 0));
    CHECK(size >= grown && size <= grown + (1 << 20) && sallocx(block, 0) == size);
    QUIETLY(CHECK(xallocx(block, most, 0, 0) == size));
    QUIETLY(size = xallocx(block, 50000, most - 50000, 0));
    CHECK(size >= 53248 && sallocx(block, 0) == size);
    /* It never becomes small. */
    QUIETLY(CHECK(xallocx(block, 100, 0, 0) >= 16384));
    QUIETLY(dallocx(block, 0));
}

static void accounts(void)
{
    size_t before = read_size("stats.allocated");
    void *blocks[100];
    for (int i = 0; i < 100; i++)
        blocks[i] = mallocx(1 << 20, i % 2 ? MALLOCX_TCACHE_NONE : 0);
    size_t during = read_size("stats.allocated");
    CHECK(during - before >= 100 << 20 && during - before < 101 << 20);
    for (int i = 0; i < 100; i++)
        i % 2 ? dallocx(blocks[i], MALLOCX_TCACHE_NONE) : free(blocks[i]);
    CHECK(read_size("stats.allocated") < before + (1 << 20));
}

static void mixed_with_the_others(void)
{
    for (size_t size = 1; size < 100000; size = size * 3 / 2 + 1) {
        free(mallocx(size, MALLOCX_ALIGN(32)));
        dallocx(malloc(size), 0);
        sdallocx(calloc(size, 1), size, 0);
        free(rallocx(malloc(size), size * 2, 0));
        dallocx(realloc(mallocx(size, 0), size * 2), 0);
        free_sized(mallocx(size, 0), size);
        free_aligned_sized(mallocx(size, MALLOCX_ALIGN(128)), 128, size);
    }
}

int main(void)
{
    macros();
    sizes_foretold();
    clean_and_aligned();
    resizes();
    resizes_in_place();
    accounts();
    mixed_with_the_others();
    return 0;
}
