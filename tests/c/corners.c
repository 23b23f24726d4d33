/* corners: the C library's allocation functions where they are easily wrong: sizes of zero, sizes that are too large,
 * products that overflow, alignments that aren't, what errno says, and what a null pointer does. */
#define _GNU_SOURCE
#include "check.h"
#include <malloc.h>

/* Weak, so that they may be found when the program starts. */
void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

static void blocks_of_nothing(void)
{
    void *blocks[7];
    QUIETLY(blocks[0] = malloc(zero));
    QUIETLY(blocks[1] = calloc(zero, zero));
    QUIETLY(blocks[2] = calloc(zero, 5));
    QUIETLY(blocks[3] = realloc(NULL, zero));
    QUIETLY(CHECK(posix_memalign(&blocks[4], 8, zero) == 0));
    QUIETLY(blocks[5] = aligned_alloc(8, zero));
    QUIETLY(blocks[6] = reallocarray(NULL, zero, 9));
    for (int i = 0; i < 7; i++) {
        CHECK(blocks[i] != NULL);
        CHECK(malloc_usable_size(blocks[i]) == 8);
        for (int j = 0; j < i; j++)
            CHECK(blocks[i] != blocks[j]);
    }
    for (int i = 0; i < 7; i++)
        QUIETLY(free(blocks[i]));
    void *page;
    QUIETLY(page = pvalloc(zero));
    CHECK((uintptr_t)page % 4096 == 0 && malloc_usable_size(page) >= 4096);
    free(page);
    QUIETLY(page = valloc(zero));
    CHECK(page && (uintptr_t)page % 4096 == 0);
    free(page);
}

static void too_much(void)
{
    size_t sizes[] = {most, most - 1, most - 4095, most - 4096, half, half + 1, half - 4096, half - 15,
                      (size_t)0x7000000000000000, (size_t)0x7000000000000001, most / 2 + 4096};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        FAILS(ENOMEM, malloc(size));
        FAILS(ENOMEM, calloc(1, size));
        FAILS(ENOMEM, calloc(size, 1));
        FAILS(ENOMEM, realloc(NULL, size));
        FAILS(ENOMEM, reallocarray(NULL, size, 1));
        FAILS(ENOMEM, memalign(64, size));
        FAILS(ENOMEM, memalign(1 << 21, size));
        FAILS(ENOMEM, aligned_alloc(64, size));
        FAILS(ENOMEM, aligned_alloc(4096, size));
        FAILS(ENOMEM, valloc(size));
        FAILS(ENOMEM, pvalloc(size));
        void *block = &block;
        QUIETLY(CHECK(posix_memalign(&block, 64, size) == ENOMEM));
        CHECK(block == &block);
        /* What was there stays there. */
        char *kept = malloc(100);
        memset(kept, 'k', 100);
        FAILS(ENOMEM, realloc(kept, size));
        FAILS(ENOMEM, reallocarray(kept, 1, size));
        for (int at = 0; at < 100; at++)
            CHECK(kept[at] == 'k');
        free(kept);
    }
    /* Alignments that no address has. */
    for (int lg = 48; lg < 64; lg++) {
        FAILS(ENOMEM, memalign((size_t)1 << lg, 1));
        FAILS(ENOMEM, aligned_alloc((size_t)1 << lg, 1));
        void *block = NULL;
        QUIETLY(CHECK(posix_memalign(&block, (size_t)1 << lg, 1) == ENOMEM));
        CHECK(!block);
    }
}

static void overflows(void)
{
    size_t pairs[][2] = {{most, 2},         {2, most},      {half, 3}, {most / 2 + 1, 2}, {(size_t)1 << 32, (size_t)1 << 32},
                         {most / 3, 4},     {most, most},   {(size_t)1 << 63, 2}, {4097, most / 4096}};
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        FAILS(ENOMEM, calloc(pairs[i][0], pairs[i][1]));
        FAILS(ENOMEM, reallocarray(NULL, pairs[i][0], pairs[i][1]));
        char *kept = malloc(10);
        kept[9] = 'k';
        FAILS(ENOMEM, reallocarray(kept, pairs[i][0], pairs[i][1]));
        CHECK(kept[9] == 'k');
        free(kept);
    }
}

static void alignments(void)
{
    for (int lg = 0; lg <= 24; lg++) {
        size_t align = (size_t)1 << lg;
        size_t sizes[] = {1, 8, 9, 100, 4096, 4097, 14336, 14337, 20000, 100000};
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            void *blocks[3] = {NULL, NULL, NULL};
            QUIETLY(blocks[0] = aligned_alloc(align, sizes[i]));
            QUIETLY(blocks[1] = memalign(align, sizes[i]));
            if (align >= sizeof(void *))
                QUIETLY(CHECK(posix_memalign(&blocks[2], align, sizes[i]) == 0));
            for (int k = 0; k < (align >= sizeof(void *) ? 3 : 2); k++) {
                CHECK(blocks[k] && (uintptr_t)blocks[k] % align == 0);
                CHECK(malloc_usable_size(blocks[k]) >= sizes[i]);
                memset(blocks[k], 0x77, malloc_usable_size(blocks[k]));
            }
            QUIETLY(free_aligned_sized(blocks[0], align, sizes[i]));
            QUIETLY(free(blocks[1]));
            QUIETLY(free(blocks[2]));
        }
    }
    size_t bad[] = {0, 3, 5, 6, 7, 9, 12, 24, 48, 100, 4095, 4097, 12288, most, most - 1, half, ((size_t)3 << 62)};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        FAILS(EINVAL, aligned_alloc(bad[i], 64));
        FAILS(EINVAL, memalign(bad[i], 64));
        void *block = &block;
        QUIETLY(CHECK(posix_memalign(&block, bad[i], 64) == EINVAL));
        CHECK(block == &block);
    }
    /* Powers of two below the size of a pointer are no alignment for posix_memalign. */
    for (size_t align = 1; align < sizeof(void *); align *= 2) {
        void *block = &block;
        QUIETLY(CHECK(posix_memalign(&block, align, 64) == EINVAL));
        CHECK(block == &block);
    }
    void *pages;
    QUIETLY(pages = valloc(100));
    CHECK((uintptr_t)pages % 4096 == 0);
    free(pages);
    QUIETLY(pages = pvalloc(4097));
    CHECK((uintptr_t)pages % 4096 == 0 && malloc_usable_size(pages) >= 8192);
    free(pages);
}

static void usable_sizes(void)
{
    CHECK(malloc_usable_size(NULL) == 0);
    size_t last = 0;
    for (size_t size = 0; size < 70000; size += 1 + size / 64) {
        char *block = malloc(size);
        size_t usable = malloc_usable_size(block);
        CHECK(usable >= size && usable >= last && usable < size + size / 4 + 4096);
        memset(block, 1, usable);
        last = usable;
        free_sized(block, size);
    }
    struct { size_t size, usable; } known[] = {{1, 8}, {9, 16}, {17, 32}, {100, 112}, {129, 160}, {4097, 5120},
                                                {14336, 14336}, {14337, 16384}, {16385, 20480}, {100000, 106496}};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++) {
        void *block = malloc(known[i].size);
        CHECK(malloc_usable_size(block) == known[i].usable);
        free(block);
    }
}

static void frees(void)
{
    size_t sizes[] = {0, 8, 100, 4096, 14337, 32768, 32769, 1 << 20, 40 << 20};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        QUIETLY(free(malloc(sizes[i])));
        QUIETLY(free_sized(malloc(sizes[i]), sizes[i]));
        QUIETLY(free_aligned_sized(aligned_alloc(64, sizes[i]), 64, sizes[i]));
        /* A null pointer, whatever is said of its size; and no block of that size is lost or given out twice by it. */
        QUIETLY(free(NULL));
        QUIETLY(free_sized(NULL, sizes[i]));
        QUIETLY(free_aligned_sized(NULL, 64, sizes[i]));
        void *first = malloc(sizes[i]), *second = malloc(sizes[i]);
        CHECK(first && second && first != second);
        free(first);
        free(second);
    }
    QUIETLY(free_sized(NULL, most));
    QUIETLY(free_aligned_sized(NULL, 3, most));
    /* A cache that overflows, and blocks of another thread's arena: the slow ways keep errno as well. */
    enum { COUNT = 5000 };
    static void *blocks[COUNT];
    for (int i = 0; i < COUNT; i++)
        QUIETLY(blocks[i] = malloc(1 + i % 3000));
    QUIETLY(for (int i = 0; i < COUNT; i++) free(blocks[i]));
}

static void reallocations(void)
{
    char *block;
    QUIETLY(block = malloc(10));
    QUIETLY(block = realloc(block, zero));
    CHECK(block == NULL); /* freed, as jemalloc does on Linux */
    QUIETLY(block = reallocarray(malloc(10), zero, 9));
    CHECK(block == NULL); /* the same: the product is what counts */
    QUIETLY(block = reallocarray(malloc(10), 4, 25));
    CHECK(malloc_usable_size(block) == 112);
    free(block);
    size_t size = 1;
    block = malloc(size);
    block[0] = 'a';
    /* Up and down again, through small, cached and large sizes; what fits is kept. */
    for (int step = 0; step < 200; step++) {
        size_t next = step < 100 ? size + size / 3 + 1 : size - size / 4;
        if (next > (2 << 20))
            next = 100000;
        QUIETLY(block = realloc(block, next));
        CHECK(block && malloc_usable_size(block) >= next);
        size_t kept = next < size ? next : size;
        for (size_t at = 0; at < kept; at += 1 + kept / 50)
            CHECK(block[at] == (char)('a' + at % 23) || at >= size);
        for (size_t at = 0; at < next; at++)
            block[at] = (char)('a' + at % 23);
        size = next;
    }
    free(block);
}

static void cleared(void)
{
    size_t sizes[] = {1, 16, 100, 1000, 4096, 14336, 16384, 32768, 100000, 1 << 20, 9 << 20};
    for (int round = 0; round < 3; round++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            char *dirty = malloc(sizes[i]);
            memset(dirty, 0xff, malloc_usable_size(dirty));
            free(dirty);
            char *clean;
            QUIETLY(clean = calloc(sizes[i], 1));
            CHECK(clean[0] == 0 && memcmp(clean, clean + 1, malloc_usable_size(clean) - 1) == 0);
            memset(clean, 0xff, malloc_usable_size(clean));
            free(clean);
        }
}

/* The number that follows a text in another. */
static size_t number_after(const char *text, const char *what)
{
    const char *found = strstr(text, what);
    CHECK(found);
    return strtoull(found + strlen(what), NULL, 10);
}

/* malloc_info, as text. */
static void info(char *text, size_t room)
{
    FILE *file = tmpfile();
    CHECK(file && malloc_info(0, file) == 0);
    rewind(file);
    size_t length = fread(text, 1, room - 1, file);
    text[length] = 0;
    fclose(file);
}

static void extras(void)
{
    static char text[2048];
    CHECK(malloc_info(1, stdout) == EINVAL);
    info(text, sizeof text);
    CHECK(!strncmp(text, "<malloc version=\"1\">\n", 21) && !strcmp(strstr(text, "</malloc>"), "</malloc>\n"));
    size_t lines = 0, elements = 0;
    for (const char *c = text; *c; c++) {
        lines += *c == '\n';
        elements += c[0] == '/' && c[1] == '>';
    }
    CHECK(lines == elements + 2);
    struct mallinfo2 before = mallinfo2();
    char *block = malloc(50 << 20);
    block[0] = 1;
    struct mallinfo2 after = mallinfo2();
    size_t grown = after.uordblks - before.uordblks;
    CHECK(grown >= 50 << 20 && grown < 52 << 20);
    CHECK(after.arena >= after.uordblks);
    info(text, sizeof text);
    size_t mapped = number_after(text, "<system type=\"current\" size=\"");
    size_t unused = number_after(text, "<total type=\"rest\" count=\"0\" size=\"");
    /* The stream has had a buffer in between, and unused pages may have gone back meanwhile. */
    CHECK(mapped >= after.uordblks && mapped < after.arena + (4 << 20));
    CHECK(mapped - unused >= after.uordblks && mapped - unused < after.uordblks + (1 << 20));
    CHECK(number_after(text, "<aspace type=\"total\" size=\"") >= mapped);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo narrow = mallinfo();
#pragma GCC diagnostic pop
    CHECK((size_t)narrow.uordblks >= 50 << 20);
    free(block);
    QUIETLY(malloc_trim(0));
    CHECK(mallinfo2().uordblks < after.uordblks);
    /* Hints for another allocator's tuning are taken and mean nothing; what can't be done isn't promised. */
    CHECK(mallopt(M_ARENA_MAX, 2) == 1 && mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1 && mallopt(M_TRIM_THRESHOLD, 1) == 1);
    CHECK(mallopt(M_PERTURB, 0x55) == 0 && mallopt(4711, 1) == 0);
}

int main(void)
{
    blocks_of_nothing();
    too_much();
    overflows();
    alignments();
    usable_sizes();
    frees();
    reallocations();
    cleared();
    extras();
    return 0;
}
