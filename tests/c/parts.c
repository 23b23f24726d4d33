/* parts.c [MIB]: memory that is none of the heap's, and a block that is only read. Prints what there is of each. With MIB, the
   program sets itself a limit of address space before, so that its memory may come where a part of the page map was. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { THREADS = 64, STACK_BYTES = 512 << 10, READ_BYTES = 64 << 20, PAGE = 4096 };

static pthread_barrier_t ready, never;

static void *work(void *unused)
{
    char used[STACK_BYTES / 2];
    memset(used, 1, sizeof used);
    __asm__ volatile("" : : "r"(used) : "memory");
    free(malloc(100));
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&never);
    return unused;
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    if (argc > 1) {
        if (getrlimit(RLIMIT_AS, &limit) != 0)
            return 1;
        limit.rlim_cur = (rlim_t)atol(argv[1]) << 20;
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            return 1;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_barrier_init(&ready, NULL, THREADS + 1);
    pthread_barrier_init(&never, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, work, NULL) != 0)
            return 1;
    }
    pthread_barrier_wait(&ready);

    /* The kernel's page of zeros stands behind all of it. */
    char *block = calloc(1, READ_BYTES);
    if (block == NULL)
        return 1;
    int sum = 0;
    for (int i = 0; i < READ_BYTES; i += PAGE)
        sum += ((volatile char *)block)[i];
    printf("{\"stacks\": %d, \"read\": %d}\n", THREADS * STACK_BYTES / 2, READ_BYTES + sum);
    return 0;
}
