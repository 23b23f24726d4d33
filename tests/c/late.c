/* late.c: 40000 blocks of which none is sampled, and then, with prof.active, 2000 of the same size that are: they fill holes
   that three of four of the others have left. Prints how many bytes are in use of both. */
#include <stdio.h>

#include "allocator.h"

enum { BLOCK_BYTES = 1024, EARLY = 40000, LATE = 2000 };

static void *volatile blocks[EARLY + LATE];

static __attribute__((noinline, noclone)) void keep_early(int i)
{
    CHECK(blocks[i] = malloc(BLOCK_BYTES));
}

static __attribute__((noinline, noclone)) void keep_late(int i)
{
    CHECK(blocks[i] = malloc(BLOCK_BYTES));
}

int main(void)
{
    find_allocator();
    for (int i = 0; i < EARLY; i++)
        keep_early(i);
    for (int i = 0; i < EARLY; i++)
        if (i % 4 != 0)
            free(blocks[i]);
    bool on = true;
    CHECK_EQUAL(mallctl("prof.active", NULL, NULL, &on, sizeof on), 0);
    for (int i = 0; i < LATE; i++)
        keep_late(EARLY + i);
    printf("{\"early\": %d, \"late\": %d}\n", EARLY / 4 * BLOCK_BYTES, LATE * BLOCK_BYTES);
    return 0;
}
