/* churn TOTAL: TOTAL threads come and go, at most 16 at once, each with 40 allocations, two of which outlive it: they are
 * freed by others, much later. Prints resident KiB after a tenth of them and at the end: "tenth KIB", "end KIB". */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "resident.h"

enum { AT_ONCE = 16, OPS = 40, OUTLIVING = 2, HELD = 4096 };

static _Atomic(void *) held[HELD];

static void *work(void *argument)
{
    unsigned state = (unsigned)(uintptr_t)argument * 2654435761u + 1;
    void *blocks[OPS];
    for (int i = 0; i < OPS; i++) {
        state = state * 1664525u + 1013904223u;
        size_t size = 1 + (state >> 16) % (i % 8 ? 500 : 5000);
        blocks[i] = memset(malloc(size), 1, size);
    }
    for (int i = OUTLIVING; i < OPS; i++)
        free(blocks[i]);
    for (int i = 0; i < OUTLIVING; i++) {
        state = state * 1664525u + 1013904223u;
        free(atomic_exchange(&held[(state >> 8) % HELD], blocks[i]));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    long total = argc == 2 ? atol(argv[1]) : 0;
    if (total < 10)
        return 2;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_t ids[AT_ONCE];
    long tenth = 0;
    for (long started = 0; started < total; started++) {
        if (started >= AT_ONCE)
            pthread_join(ids[started % AT_ONCE], NULL);
        if (pthread_create(&ids[started % AT_ONCE], &attributes, work, (void *)(intptr_t)(started + 1)))
            return 3;
        if (started == total / 10)
            tenth = resident_kib();
    }
    for (long i = 0; i < (total < AT_ONCE ? total : AT_ONCE); i++)
        pthread_join(ids[i], NULL);
    printf("tenth %ld\nend %ld\n", tenth, resident_kib());
    return 0;
}
