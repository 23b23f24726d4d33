/* wrong KIND: uses a block wrongly in one way. Prints "went on" if the wrong call returned, then does what brings an error
 * that was noticed late to light: a request of the same size, and then the thread's cache is emptied. Exits with 0 when
 * nothing was noticed at all. */
#include "allocator.h"
#include <malloc.h>
#include <pthread.h>

void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

/* Hides from the compiler where a pointer comes from. */
static void *hidden(void *pointer)
{
    __asm__("" : "+r"(pointer));
    return pointer;
}

static void *at(void *block, size_t offset)
{
    return (char *)hidden(block) + offset;
}

static void *take(size_t size)
{
    void *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    return block;
}

static void *free_it(void *block)
{
    free(hidden(block));
    return NULL;
}

static void elsewhere(void *(*what)(void *), void *block)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, what, block) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Empties the thread's cache, where it has one. */
static void flush(void)
{
    bool caches = false;
    size_t length = sizeof caches;
    CHECK(mallctl("thread.tcache.enabled", &caches, &length, NULL, 0) == 0);
    CHECK(!caches || mallctl("thread.tcache.flush", NULL, NULL, NULL, 0) == 0);
}

/* The program's own way out, which returns. */
static void own_way(const char *line)
{
    CHECK(write(1, line, strlen(line)) > 0);
}

static int global = 1;

int main(int argc, char **argv)
{
    find_allocator();
    CHECK(argc == 3);
    const char *kind = argv[1];
    size_t size = strtoul(argv[2], NULL, 10);
    int local = 2;
    /* Each size has blocks in use before and after. */
    void *before = take(size), *block = take(size), *after = take(size), *other = take(size);
    if (!strcmp(kind, "right")) {
        free(block);
        free(other);
    } else if (!strcmp(kind, "twice")) {
        free(block);
        free(hidden(block));
    } else if (!strcmp(kind, "twice-with-a-hook")) {
        void (*hook)(const char *) = own_way;
        CHECK(mallctl("experimental.hooks.safety_check_abort", NULL, NULL, &hook, sizeof hook) == 0);
        free(block);
        free(hidden(block));
    } else if (!strcmp(kind, "twice-with-another-between")) {
        free(block);
        free(other);
        free(hidden(block));
    } else if (!strcmp(kind, "twice-after-flush")) {
        free(block);
        flush();
        free(hidden(block));
    } else if (!strcmp(kind, "twice-in-a-row")) {
        /* Among many that come back in the order of their addresses. */
        void *row[100];
        for (int i = 0; i < 100; i++)
            row[i] = take(size);
        free(row[50]);
        for (int i = 0; i < 100; i++)
            free(hidden(row[i]));
    } else if (!strcmp(kind, "twice-elsewhere")) {
        free(block);
        elsewhere(free_it, block);
    } else if (!strcmp(kind, "elsewhere-twice")) {
        elsewhere(free_it, block);
        free(hidden(block));
    } else if (!strcmp(kind, "twice-by-realloc")) {
        free(block);
        other = realloc(hidden(block), size * 3);
    } else if (!strcmp(kind, "size-of-free")) {
        free(block);
        CHECK(malloc_usable_size(hidden(block)) > 0);
    } else if (!strcmp(kind, "unaligned")) {
        free(at(block, 1));
    } else if (!strcmp(kind, "inside")) {
        free(at(block, 16));
    } else if (!strcmp(kind, "pages-inside")) {
        free(at(block, 4096));
    } else if (!strcmp(kind, "inside-by-realloc")) {
        other = realloc(at(block, 16), size * 3);
    } else if (!strcmp(kind, "stack")) {
        free(hidden(&local));
    } else if (!strcmp(kind, "global")) {
        free(hidden(&global));
    } else if (!strcmp(kind, "mapping")) {
        free(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    } else if (!strcmp(kind, "small-number")) {
        free(hidden((void *)(uintptr_t)0x10));
    } else if (!strcmp(kind, "beyond")) {
        free(hidden((void *)(uintptr_t)0x800000001000));
    } else if (!strcmp(kind, "kernel")) {
        free(hidden((void *)(uintptr_t)-4096));
    } else if (!strcmp(kind, "sized")) {
        free_sized(block, size * 3);
    } else if (!strcmp(kind, "sized-and-aligned")) {
        free_aligned_sized(block, size * 2, size);
    } else if (!strcmp(kind, "sized-by-flags")) {
        sdallocx(block, size * 3, MALLOCX_TCACHE_NONE);
    } else if (!strcmp(kind, "write-after-free")) {
        free(block);
        ((volatile char *)hidden(block))[size - 1] = 3;
    } else {
        dprintf(2, "no kind %s\n", kind);
        return 2;
    }
    CHECK(write(1, "went on\n", 8) == 8);
    if (strcmp(kind, "unaligned"))
        flush();
    /* The next one out of the cache, and all of the others of a slab. */
    for (int i = 0; i < 600; i++)
        CHECK(malloc(size) != NULL);
    flush();
    free(before);
    free(after);
    flush();
    return 0;
}
