/* fill SIZE: what a block of SIZE bytes holds when it is fresh and after it was freed, many times over, so that blocks
 * come out of thread caches. Prints "fresh X freed Y": the byte that all fresh blocks held, the one that all freed blocks
 * held (but for their first 16 bytes, which are the allocator's), or "mixed". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 500, OWN = 16 };

/* The byte that `block[from..size]` consists of, or -1. */
static int only_byte(const unsigned char *block, size_t from, size_t size)
{
    for (size_t i = from; i < size; i++)
        if (block[i] != block[from])
            return -1;
    return block[from];
}

static void show(const char *name, int byte, int mixed)
{
    if (mixed)
        printf("%s mixed\n", name);
    else
        printf("%s %02x\n", name, byte);
}

int main(int argc, char **argv)
{
    size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
    int fresh = -1, freed = -1, fresh_mixed = 0, freed_mixed = 0;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned char *volatile block = malloc(size);
        if (!block)
            return 1;
        int byte = only_byte(block, 0, size);
        fresh_mixed |= byte < 0 || (i > 0 && byte != fresh);
        fresh = byte;
        memset(block, 7, size);
        free(block);
        /* Wrong in any other program: the block is in the thread's cache, and its page stays. */
        byte = only_byte(block, OWN, size);
        freed_mixed |= byte < 0 || (i > 0 && byte != freed);
        freed = byte;
    }
    show("fresh", fresh, fresh_mixed);
    show("freed", freed, freed_mixed);
    return 0;
}
