/* voided: blocks at which a wait ends that says nothing about them, each so large that it is a sample all but surely.
 *
 *   voided fork     the child of a fork, which gets helper threads back as it allocates
 *   voided retune   a thread whose program has set another interval meanwhile
 *
 * Prints how many bytes prof.stats knows to be live of such blocks, and of how many. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { BLOCKS = 3 };
#define BLOCK_BYTES ((size_t)64 << 20)

typedef int (*mallctl_fn)(const char *, void *, size_t *, void *, size_t);
static mallctl_fn mallctl;
static void *volatile held[BLOCKS];
static pthread_barrier_t turn;

static void allocate_and_tell(void)
{
    for (int i = 0; i < BLOCKS; i++)
        CHECK((held[i] = malloc(BLOCK_BYTES)));
    int64_t live[2];
    size_t length = sizeof live;
    unsigned i, lextents;
    size_t size, word = sizeof lextents;
    CHECK(!mallctl("arenas.nlextents", &lextents, &word, NULL, 0));
    for (i = 0; i < lextents; i++) {
        char name[64];
        word = sizeof size;
        snprintf(name, sizeof name, "arenas.lextent.%u.size", i);
        CHECK(!mallctl(name, &size, &word, NULL, 0));
        if (size == BLOCK_BYTES)
            break;
    }
    char name[64];
    snprintf(name, sizeof name, "prof.stats.lextents.%u.live", i);
    CHECK(!mallctl(name, live, &length, NULL, 0));
    printf("%lld bytes in %lld of %d blocks\n", (long long)live[0], (long long)live[1], BLOCKS);
    fflush(stdout);
}

static void *thread(void *unused)
{
    /* A wait of its own, under the first interval. */
    held[0] = malloc(100);
    free(held[0]);
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    allocate_and_tell();
    return unused;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && (mallctl = (mallctl_fn)dlsym(RTLD_DEFAULT, "mallctl")));
    if (!strcmp(argv[1], "fork")) {
        pid_t child = fork();
        if (child == 0) {
            allocate_and_tell();
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        return 0;
    }
    pthread_t id;
    CHECK(!pthread_barrier_init(&turn, NULL, 2) && !pthread_create(&id, NULL, thread, NULL));
    pthread_barrier_wait(&turn);
    size_t interval = 1 << 16;
    CHECK(!mallctl("prof.sample", NULL, NULL, &interval, sizeof interval));
    pthread_barrier_wait(&turn);
    CHECK(!pthread_join(id, NULL));
    return 0;
}
