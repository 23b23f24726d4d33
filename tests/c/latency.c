/* latency LIVE THREADS DUMPS: LIVE blocks that are all samples under prof_sample:1, THREADS threads that allocate and free
 * without pause, and DUMPS dumps meanwhile (0: a second without any). Prints how often a thread slept, to wait for another:
 * "slept N", in "pairs N" of calls; the longest time that 16 pairs took by the clock, "longest N" microseconds; and the mean
 * time of a dump, "dump N" microseconds. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include "allocator.h"

static atomic_int stop;
static atomic_long slept, pairs, longest;

static long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Times that the thread gave up the processor by itself, to wait for something. */
static long waits(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nvcsw;
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    long mine = 0, worst = 0, before = waits();
    while (!stop) {
        long start = now_us();
        for (int i = 0; i < 16; i++)
            free(malloc(1 + draw(&state) % 2000));
        long took = now_us() - start;
        worst = took > worst ? took : worst;
        mine += 16;
    }
    slept += waits() - before;
    pairs += mine;
    long seen = longest;
    while (worst > seen && !atomic_compare_exchange_weak(&longest, &seen, worst))
        ;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    find_allocator();
    long live = atol(argv[1]);
    int threads = atoi(argv[2]), dumps = atoi(argv[3]);
    void **blocks = calloc(live, sizeof *blocks);
    for (long i = 0; i < live; i++)
        blocks[i] = malloc(64);
    pthread_t ids[64];
    for (int i = 0; i < threads && i < 64; i++)
        CHECK(pthread_create(&ids[i], NULL, work, (void *)(intptr_t)(i + 1)) == 0);
    long start = now_us();
    for (int i = 0; i < dumps; i++)
        CHECK(DO("prof.dump") == 0);
    if (dumps == 0)
        sleep(1);
    long took = now_us() - start;
    stop = 1;
    for (int i = 0; i < threads && i < 64; i++)
        pthread_join(ids[i], NULL);
    dprintf(1, "slept %ld\npairs %ld\nlongest %ld\ndump %ld\n", (long)slept, (long)pairs, (long)longest, dumps ? took / dumps : 0);
    for (long i = 0; i < live; i++)
        free(blocks[i]);
    return 0;
}
