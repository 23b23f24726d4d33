/* balance THREADS OPS ROUNDS: each round, THREADS threads swap blocks through shared places and end; what they leave is freed
 * by those of later rounds. Meanwhile the main thread dumps, switches sampling off and on, and in the first half of the
 * rounds forgets all samples now and then. At the end everything is freed; dumps go on by the caller's options. Prints
 * "dumps N". */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include "allocator.h"

enum { PLACES = 20000 };

static _Atomic(void *) places[PLACES];
static long ops;
static atomic_int running;

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    for (long i = 0; i < ops; i++) {
        size_t size = 1 + draw(&state) % (draw(&state) % 50 ? 300 : 40000);
        char *block = malloc(size);
        block[0] = 1;
        if (draw(&state) % 8 == 0)
            block = realloc(block, size * 2);
        free(atomic_exchange(&places[draw(&state) % PLACES], block));
    }
    running--;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    find_allocator();
    int threads = atoi(argv[1]), rounds = atoi(argv[3]), dumps = 0;
    ops = atol(argv[2]);
    pthread_t *ids = calloc(threads, sizeof *ids);
    for (int round = 0; round < rounds; round++) {
        running = threads;
        /* However fast they are, each round begins with samples. */
        CHECK(WRITE(bool, true, "prof.active") == 0);
        for (int i = 0; i < threads; i++)
            CHECK(pthread_create(&ids[i], NULL, work, (void *)(intptr_t)(round * threads + i + 1)) == 0);
        for (int turn = 0; running > 0; turn++) {
            if (turn % 4 == 0)
                CHECK(DO("prof.dump") == 0 && ++dumps);
            CHECK(WRITE(bool, turn % 3 != 2, "prof.active") == 0);
            if (round < rounds / 2 && turn % 5 == 4)
                CHECK(DO("prof.reset") == 0);
            usleep(2000);
        }
        for (int i = 0; i < threads; i++)
            pthread_join(ids[i], NULL);
    }
    CHECK(WRITE(bool, true, "prof.active") == 0);
    for (int i = 0; i < PLACES; i++)
        free(places[i]);
    free(ids);
    dprintf(1, "dumps %d\n", dumps);
    return 0;
}
