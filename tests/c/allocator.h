/* The functions of the allocator that is preloaded, found by name, and what programs that test it share. */
#ifndef ALLOCATOR_H
#define ALLOCATOR_H
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define MALLOCX_LG_ALIGN(la) ((int)(la))
#define MALLOCX_ALIGN(a) ((int)__builtin_ctzll(a))
#define MALLOCX_ZERO 0x40
#define MALLOCX_TCACHE(tc) ((int)(((tc) + 2) << 8))
#define MALLOCX_TCACHE_NONE MALLOCX_TCACHE(-1)
#define MALLOCX_ARENA(a) ((int)((((unsigned)(a)) + 1) << 20))

typedef struct extent_hooks extent_hooks_t;
struct extent_hooks {
    void *(*alloc)(extent_hooks_t *, void *, size_t, size_t, bool *, bool *, unsigned);
    bool (*dalloc)(extent_hooks_t *, void *, size_t, bool, unsigned);
    void (*destroy)(extent_hooks_t *, void *, size_t, bool, unsigned);
    bool (*commit)(extent_hooks_t *, void *, size_t, size_t, size_t, unsigned);
    bool (*decommit)(extent_hooks_t *, void *, size_t, size_t, size_t, unsigned);
    bool (*purge_lazy)(extent_hooks_t *, void *, size_t, size_t, size_t, unsigned);
    bool (*purge_forced)(extent_hooks_t *, void *, size_t, size_t, size_t, unsigned);
    bool (*split)(extent_hooks_t *, void *, size_t, size_t, size_t, bool, unsigned);
    bool (*merge)(extent_hooks_t *, void *, size_t, void *, size_t, bool, unsigned);
};

static UNUSED int (*mallctl)(const char *, void *, size_t *, void *, size_t);
static UNUSED int (*mallctlnametomib)(const char *, size_t *, size_t *);
static UNUSED int (*mallctlbymib)(const size_t *, size_t, void *, size_t *, void *, size_t);
static UNUSED void *(*mallocx)(size_t, int);
static UNUSED void *(*rallocx)(void *, size_t, int);
static UNUSED size_t (*xallocx)(void *, size_t, size_t, int);
static UNUSED size_t (*sallocx)(const void *, int);
static UNUSED void (*dallocx)(void *, int);
static UNUSED void (*sdallocx)(void *, size_t, int);
static UNUSED size_t (*nallocx)(size_t, int);
static UNUSED void (*malloc_stats_print)(void (*)(void *, const char *), void *, const char *);

/* Ends the program with a line that says what is wrong. */
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            dprintf(2, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            _exit(1); \
        } \
    } while (0)
#define CHECK_EQUAL(a, b) \
    do { \
        long long a_ = (long long)(a), b_ = (long long)(b); \
        if (a_ != b_) { \
            dprintf(2, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, a_, #b, b_); \
            _exit(1); \
        } \
    } while (0)

static UNUSED void *function(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    if (!found) {
        dprintf(2, "no %s: is an allocator preloaded?\n", name);
        _exit(3);
    }
    return found;
}

static UNUSED void find_allocator(void)
{
#define FIND(name) *(void **)&name = function(#name)
    FIND(mallctl);
    FIND(mallctlnametomib);
    FIND(mallctlbymib);
    FIND(mallocx);
    FIND(rallocx);
    FIND(xallocx);
    FIND(sallocx);
    FIND(dallocx);
    FIND(sdallocx);
    FIND(nallocx);
    FIND(malloc_stats_print);
#undef FIND
}

/* mallctl with a name that holds an index. */
#define NAMED(buffer, ...) (snprintf(buffer, sizeof buffer, __VA_ARGS__), buffer)

#define READ(type, ...) \
    __extension__({ \
        char name_[128]; \
        type value_ = (type)0; \
        size_t length_ = sizeof value_; \
        int answer_ = mallctl(NAMED(name_, __VA_ARGS__), &value_, &length_, NULL, 0); \
        if (answer_) { \
            dprintf(2, "%s:%d: reading %s answers %d\n", __FILE__, __LINE__, name_, answer_); \
            _exit(1); \
        } \
        value_; \
    })
#define WRITE(type, value, ...) \
    __extension__({ \
        char name_[128]; \
        type value_ = (value); \
        mallctl(NAMED(name_, __VA_ARGS__), NULL, NULL, &value_, sizeof value_); \
    })
#define DO(...) \
    __extension__({ \
        char name_[128]; \
        mallctl(NAMED(name_, __VA_ARGS__), NULL, NULL, NULL, 0); \
    })

static UNUSED void new_epoch(void)
{
    uint64_t epoch = 1;
    CHECK(mallctl("epoch", NULL, NULL, &epoch, sizeof epoch) == 0);
}

/* A statistic of this moment. */
#define FRESH(type, ...) (new_epoch(), READ(type, __VA_ARGS__))

static UNUSED unsigned create_arena(extent_hooks_t *hooks)
{
    unsigned index = 0;
    size_t length = sizeof index;
    CHECK(mallctl("arenas.create", &index, &length, hooks ? (void *)&hooks : NULL, hooks ? sizeof hooks : 0) == 0);
    return index;
}

/* A generator of numbers that need not be good but the same in each run. */
static UNUSED uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* Fills a block by a number, and checks that it is still so: each byte of the first page, each sixteenth from there on. */
static UNUSED void fill_block(unsigned char *block, size_t bytes, unsigned number)
{
    for (size_t i = 0; i < bytes; i += i < 4096 ? 1 : 16)
        block[i] = (unsigned char)(number * 31 + i * 7);
}

static UNUSED bool is_filled(const unsigned char *block, size_t bytes, unsigned number)
{
    for (size_t i = 0; i < bytes; i += i < 4096 ? 1 : 16)
        if (block[i] != (unsigned char)(number * 31 + i * 7))
            return false;
    return true;
}

/* Resident pages of a range. */
static UNUSED size_t resident_pages(void *start, size_t bytes)
{
    size_t pages = bytes / 4096, count = 0;
    unsigned char *there = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(there != MAP_FAILED && mincore(start, bytes, there) == 0);
    for (size_t i = 0; i < pages; i++)
        count += there[i] & 1;
    munmap(there, pages);
    return count;
}
#endif
