/* one_way WHAT MIB: MIB MiB go from the thread that allocates them to one that frees them, while the profiler can't follow
 * both; then the one that frees climbs to half as much, which is the most that there ever was, and descends. Prints the
 * usable bytes of that summit, as JSON. WHAT is why the profiler can't follow:
 *   sampled  only the thread that frees is sampled (prof_thread_active_init:false)
 *   late     the watch for peaks is switched on afterwards
 *   paused   prof.active is false meanwhile
 *   reset    it can; but then the thread that freed resets an arena that is full of samples */
#include <malloc.h>
#include <pthread.h>
#include "allocator.h"

enum { BATCH = 1024, SIZE = 4096 };

static const char *what;
static long batches;
static pthread_barrier_t turn;
static void *handed[BATCH];

static bool is(const char *word)
{
    return !strcmp(what, word);
}

static void put(const char *name, bool on)
{
    CHECK_EQUAL(mallctl(name, NULL, NULL, &on, sizeof on), 0);
}

static void *allocate(void *unused)
{
    for (long batch = 0; batch < batches; batch++) {
        for (int i = 0; i < BATCH; i++)
            CHECK(handed[i] = malloc(SIZE));
        pthread_barrier_wait(&turn);
        pthread_barrier_wait(&turn);
    }
    /* Stays until the end: what it holds, it has not told. */
    pthread_barrier_wait(&turn);
    return unused;
}

static void free_what_comes(void)
{
    for (long batch = 0; batch < batches; batch++) {
        pthread_barrier_wait(&turn);
        for (int i = 0; i < BATCH; i++) {
            free(handed[i]);
            /* Samples of this thread's own, which tell what it has freed. */
            void *volatile own = malloc(SIZE);
            free(own);
        }
        pthread_barrier_wait(&turn);
    }
}

static void reset_an_arena(void)
{
    unsigned arena;
    size_t length = sizeof arena;
    CHECK_EQUAL(mallctl("arenas.create", &arena, &length, NULL, 0), 0);
    for (int i = 0; i < BATCH; i++)
        CHECK(mallocx(SIZE, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE));
    char name[32];
    snprintf(name, sizeof name, "arena.%u.reset", arena);
    CHECK_EQUAL(mallctl(name, NULL, NULL, NULL, 0), 0);
}

static size_t climb(void)
{
    size_t summit = 0;
    void **last = NULL;
    for (long i = 0; i < batches * BATCH / 2; i++) {
        void **block = malloc(SIZE);
        CHECK(block);
        summit += malloc_usable_size(block);
        *block = last;
        last = block;
    }
    while (last) {
        void **next = *last;
        free(last);
        last = next;
    }
    return summit;
}

int main(int argc, char **argv)
{
    find_allocator();
    CHECK_EQUAL(argc, 3);
    what = argv[1];
    batches = atol(argv[2]) * (1 << 20) / SIZE / BATCH;
    if (is("paused"))
        put("prof.active", false);
    if (is("sampled"))
        put("thread.prof.active", true);
    pthread_t thread;
    CHECK_EQUAL(pthread_barrier_init(&turn, NULL, 2), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, allocate, NULL), 0);
    free_what_comes();
    if (is("late"))
        put("prof.peak", true);
    if (is("paused"))
        put("prof.active", true);
    if (is("reset"))
        reset_an_arena();
    printf("{\"summit\": %zu}\n", climb());
    pthread_barrier_wait(&turn);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    return 0;
}
