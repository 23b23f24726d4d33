/* report WHAT [LETTERS]: what malloc_stats_print and the statistics say, on standard output.
 *   load    ten reports while four threads allocate (LETTERS as given, one report after the other)
 *   rest    a report of a heap at rest that holds what is told before it: "held BYTES", blocks of 100, 3000 and 100000
 *           bytes, half of each freed, in an arena of its own, whose number is told as "arena N" */
#include <pthread.h>
#include "allocator.h"

static void put(void *opaque, const char *text)
{
    CHECK(opaque == &mallctl);
    CHECK(strlen(text) > 0);
    /* A program may do all that it likes here. */
    free(malloc(1000));
    fputs(text, stdout);
}

static volatile bool stop;

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    enum { SLOTS = 2000 };
    static __thread void *held[SLOTS];
    while (!stop) {
        int slot = (int)(draw(&state) % SLOTS);
        free(held[slot]);
        size_t bytes = draw(&state) % 32 == 0 ? draw(&state) % 3000000 : draw(&state) % 3000;
        held[slot] = malloc(bytes);
        /* What is free shall come and go, too. */
        if (draw(&state) % 5000 == 0)
            CHECK(DO("arena.%u.purge", READ(unsigned, "thread.arena")) == 0);
    }
    for (int i = 0; i < SLOTS; i++)
        free(held[i]);
    return NULL;
}

static void load(const char *letters)
{
    pthread_t threads[4];
    for (intptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 1)) == 0);
    for (int i = 0; i < 10; i++) {
        usleep(50000);
        malloc_stats_print(put, &mallctl, letters);
        for (int j = 0; j < 20; j++) {
            /* By name as well, all of one epoch. */
            size_t allocated = FRESH(size_t, "stats.allocated"), active = READ(size_t, "stats.active");
            size_t resident = READ(size_t, "stats.resident"), mapped = READ(size_t, "stats.mapped");
            /* Less may be resident than is active: pages inside of slabs are given back. */
            CHECK(allocated <= active && active <= mapped && resident > 0);
            CHECK_EQUAL(READ(size_t, "stats.arenas.4096.pactive") * 4096, active);
        }
    }
    stop = true;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void rest(const char *letters)
{
    unsigned arena = create_arena(NULL);
    static const size_t sizes[] = { 100, 3000, 100000 };
    size_t held = 0;
    for (int kind = 0; kind < 3; kind++) {
        void *blocks[400];
        for (int i = 0; i < 400; i++)
            blocks[i] = mallocx(sizes[kind], MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
        for (int i = 0; i < 400; i++)
            if (i % 2)
                dallocx(blocks[i], MALLOCX_TCACHE_NONE);
            else
                held += sallocx(blocks[i], 0);
    }
    free(realloc(malloc(10), 0));
    printf("held %zu\narena %u\n", held, arena);
    malloc_stats_print(put, &mallctl, letters);
}

int main(int argc, char **argv)
{
    find_allocator();
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    const char *letters = argc == 3 ? argv[2] : NULL;
    if (argc >= 2 && !strcmp(argv[1], "load"))
        load(letters);
    else if (argc >= 2 && !strcmp(argv[1], "rest"))
        rest(letters);
    else
        return 2;
    return fflush(stdout) ? 1 : 0;
}
