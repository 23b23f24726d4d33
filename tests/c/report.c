/* report WHAT [LETTERS]: what malloc_stats_print and the statistics say, on standard output.
 *   load    ten reports while four threads allocate (LETTERS as given, one report after the other)
 *   rest    a report of a heap at rest that holds what is told before it: "held BYTES", blocks of 100, 3000 and 100000
 *           bytes, half of each freed, in an arena of its own, whose number is told as "arena N"
 *   metrics two texts of heapsift_metrics, between which an arena that has worked goes away; the second one is told */
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
            CHECK_EQUAL(READ(size_t, "stats.arenas.4096.base") + READ(size_t, "stats.arenas.4096.internal"),
                        READ(size_t, "stats.metadata"));
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

static char metrics_text[1 << 17];

static void keep(void *opaque, const char *text)
{
    CHECK(opaque == metrics_text && strlen(metrics_text) + strlen(text) < sizeof metrics_text);
    strcat(metrics_text, text);
}

/* What the last text tells of a name. */
static double told(const char *name)
{
    char line[128];
    const char *found = strstr(metrics_text, NAMED(line, "\n%s ", name));
    CHECK(found);
    return strtod(found + strlen(line), NULL);
}

static void look(void)
{
    void (*heapsift_metrics)(void (*)(void *, const char *), void *);
    *(void **)&heapsift_metrics = function("heapsift_metrics");
    *metrics_text = 0;
    heapsift_metrics(keep, metrics_text);
    /* By name as well, all of one epoch. */
    static const char *const names[] = { "allocated", "active", "metadata", "resident", "mapped", "retained", "pinned" };
    char line[64];
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_EQUAL(told(NAMED(line, "heapsift_%s_bytes", names[i])), READ(size_t, "stats.%s", names[i]));
    CHECK(told("heapsift_resident_bytes") <= told("heapsift_mapped_bytes"));
    CHECK_EQUAL(READ(size_t, "stats.retained"), READ(size_t, "stats.arenas.4096.retained"));
    for (unsigned i = 0, classes = READ(unsigned, "arenas.nlextents"); i < classes; i++) {
        size_t blocks = READ(size_t, "stats.arenas.4096.lextents.%u.curlextents", i);
        size_t bytes = READ(size_t, "arenas.lextent.%u.size", i);
        if (blocks)
            CHECK_EQUAL(told(NAMED(line, "heapsift_class_blocks{class=\"%zu\"}", bytes)), blocks);
    }
}

static void metrics(void)
{
    enum { BLOCKS = 1000 };
    static const char *const counters[] = { "requests_total", "purged_bytes_total{state=\"dirty\"}",
                                            "purge_calls_total{state=\"dirty\"}" };
    double before[3];
    void *blocks[BLOCKS];
    char line[64];
    /* Leaves blocks of the library's own, where there is a profile. */
    mallctl("prof.dump", NULL, NULL, NULL, 0);
    unsigned arena = create_arena(NULL);
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = mallocx(3000, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
    for (int i = 0; i < BLOCKS; i++)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    CHECK(DO("arena.%u.purge", arena) == 0);
    free(realloc(malloc(10), 0));
    void *large[] = { malloc(41000), malloc(100000), malloc(64 << 20) };
    look();
    for (unsigned i = 0; i < sizeof large / sizeof *large; i++)
        free(large[i]);
    CHECK(told("heapsift_requests_total") >= BLOCKS && told("heapsift_zero_reallocs_total") == 1);
    for (int i = 0; i < 3; i++)
        CHECK((before[i] = told(NAMED(line, "heapsift_%s", counters[i]))) > 0);
    CHECK(DO("arena.%u.destroy", arena) == 0);
    look();
    for (int i = 0; i < 3; i++)
        CHECK(told(NAMED(line, "heapsift_%s", counters[i])) >= before[i]);
    fputs(metrics_text, stdout);
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
    else if (argc == 2 && !strcmp(argv[1], "metrics"))
        metrics();
    else
        return 2;
    return fflush(stdout) ? 1 : 0;
}
