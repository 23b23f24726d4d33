/* Blocks that are all sampled, resized in place, forgotten by a reset, and freed: what the sums by class and the program's
   hooks are told of them. Prints what is in use by the sums of the class, before and after, and how often the hook was called. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*mallctl_fn)(const char *, void *, size_t *, void *, size_t);
static mallctl_fn ctl;
static unsigned ends;

static void ended(const void *block, size_t usable)
{
    (void)block;
    ends += usable == 1792;
}

static void show(const char *when)
{
    uint64_t live[2] = {0, 0};
    size_t size = sizeof live;
    /* Class 23: 1792 bytes. */
    int error = ctl("prof.stats.bins.23.live", live, &size, NULL, 0);
    printf("%s: %d, %lu bytes in %lu blocks, %u ends\n", when, error, (unsigned long)live[0], (unsigned long)live[1], ends);
}

int main(void)
{
    enum { BLOCKS = 100 };
    static void *blocks[BLOCKS];
    void (*hook)(const void *, size_t) = ended;
    ctl = (mallctl_fn)dlsym(RTLD_DEFAULT, "mallctl");
    if (!ctl || ctl("experimental.hooks.prof_sample_free", NULL, NULL, &hook, sizeof hook))
        return 1;
    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(1700);
    show("allocated");
    for (int i = 0; i < BLOCKS; i++)
        if (realloc(blocks[i], 1790) != blocks[i])
            return 1;
    show("resized");
    if (ctl("prof.reset", NULL, NULL, NULL, 0))
        return 1;
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    show("freed");
    return 0;
}
