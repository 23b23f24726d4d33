/* Locks all of its memory, what is to come included, as databases and programs of audio do, and works on. Prints what is
 * resident in KiB after the one and after the other. Exit status 77: the kernel doesn't allow it. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "check.h"
#include "resident.h"

enum { THREADS = 4, BLOCKS = 2000 };

static void *work(void *argument)
{
    static const size_t sizes[] = { 24, 200, 3000, 20000, 70000 };
    uintptr_t seed = (uintptr_t)argument;
    char *held[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = sizes[(i + seed) % 5];
        CHECK((held[i] = malloc(size)) != NULL);
        memset(held[i], (int)seed, size);
    }
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(held[i][0] == (char)seed);
        free(held[i]);
    }
    return NULL;
}

/* What counts as locked, in KiB. */
static long locked_kib(void)
{
    char line[128];
    long kib = -1;
    FILE *status = fopen("/proc/self/status", "r");
    CHECK(status != NULL);
    while (kib < 0 && fgets(line, sizeof line, status))
        sscanf(line, "VmLck: %ld", &kib);
    fclose(status);
    CHECK(kib >= 0);
    return kib;
}

int main(void)
{
    /* Whoever gets too much memory by this is the one to be killed for it. */
    FILE *score = fopen("/proc/self/oom_score_adj", "w");
    if (score) {
        fputs("1000", score);
        fclose(score);
    }
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        return 77;
    long locked = resident_kib();
    /* Address space that nobody needs is not locked with the rest. */
    CHECK(locked_kib() < 8 << 20);
    work((void *)7);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    /* Blocks that are large enough for pages to be moved. */
    char *large[8];
    for (int i = 0; i < 8; i++) {
        CHECK((large[i] = malloc(3 << 20)) != NULL);
        memset(large[i], i, 3 << 20);
    }
    for (int i = 0; i < 8; i += 2)
        free(large[i]);
    char *block = malloc(8 << 20);
    CHECK(block != NULL);
    memset(block, 1, 8 << 20);
    CHECK((block = realloc(block, 20 << 20)) != NULL);
    for (int i = 0; i < 8 << 20; i += 4096)
        CHECK(block[i] == 1);
    for (int i = 1; i < 8; i += 2)
        CHECK(large[i][0] == i && large[i][(3 << 20) - 1] == i);
    printf("%ld %ld\n", locked, resident_kib());
    return 0;
}
