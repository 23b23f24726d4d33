/* crowd THREADS MIB: while so many threads wait, which have allocated a little, the first one climbs to half of MIB MiB, goes
 * to and fro a little below that, climbs to MIB MiB and descends. Prints the usable bytes of that summit, as JSON. */
#include <malloc.h>
#include <pthread.h>
#include "allocator.h"

enum { SIZE = 16384 };

static pthread_barrier_t turn;

static void *wait(void *unused)
{
    void *volatile block = malloc(100);
    free(block);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    return unused;
}

static void **held;
static size_t count;

/* Until there are so many blocks. */
static void go(size_t blocks)
{
    while (count < blocks)
        CHECK(held[count++] = malloc(SIZE));
    while (count > blocks)
        free(held[--count]);
}

int main(int argc, char **argv)
{
    CHECK_EQUAL(argc, 3);
    int threads = atoi(argv[1]);
    size_t blocks = (size_t)atoi(argv[2]) * (1 << 20) / SIZE, summit = 0;
    pthread_t *ids = malloc(threads * sizeof *ids);
    held = malloc(blocks * sizeof *held);
    pthread_attr_t attributes;
    CHECK(ids && held && !pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, 64 << 10));
    CHECK_EQUAL(pthread_barrier_init(&turn, NULL, threads + 1), 0);
    for (int i = 0; i < threads; i++)
        CHECK_EQUAL(pthread_create(&ids[i], &attributes, wait, NULL), 0);
    pthread_barrier_wait(&turn);
    for (int i = 0; i < 8000; i++) {
        go(blocks / 2);
        go(blocks / 2 - blocks / 64);
    }
    go(blocks);
    for (size_t i = 0; i < blocks; i++)
        summit += malloc_usable_size(held[i]);
    go(0);
    pthread_barrier_wait(&turn);
    for (int i = 0; i < threads; i++)
        CHECK_EQUAL(pthread_join(ids[i], NULL), 0);
    printf("{\"summit\": %zu}\n", summit);
    return 0;
}
