/* slack: two sites that fill slabs with blocks of the same sizes; of one's, most are freed again. Prints the free bytes that
 * each keeps, shared by slab among the blocks that live there, as JSON. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);

enum { COUNT = 120000, SIZES = 3 };
static const size_t sizes[SIZES] = {64, 160, 1024};
static void *sparse[SIZES][COUNT], *dense[SIZES][COUNT];
/* Fewer of the larger ones. */
static int count(int size) { return COUNT >> (size * 2); }

__attribute__((noinline)) static void slack_sparse(int size, int i) { sparse[size][i] = malloc(sizes[size]); }
__attribute__((noinline)) static void slack_dense(int size, int i) { dense[size][i] = malloc(sizes[size]); }

/* How full the slab of a block is: current slab, free blocks, blocks, bytes, and two numbers of the bin. */
static double share(void *block, size_t size)
{
    size_t found[6], length = sizeof found;
    if (mallctl("experimental.utilization.query", found, &length, &block, sizeof block))
        abort();
    return (double)size * (double)found[1] / (double)(found[2] - found[1]);
}

int main(void)
{
    uint32_t state = 1;
    for (int size = 0; size < SIZES; size++) {
        for (int i = 0; i < count(size); i++)
            slack_sparse(size, i);
        for (int i = 0; i < count(size); i++)
            slack_dense(size, i);
        for (int i = 0; i < count(size); i++) {
            state = state * 1664525u + 1013904223u;
            if ((state >> 8) % 10 < 7) {
                free(sparse[size][i]);
                sparse[size][i] = NULL;
            }
        }
    }
    mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    double of_sparse = 0, of_dense = 0;
    for (int size = 0; size < SIZES; size++)
        for (int i = 0; i < count(size); i++) {
            if (sparse[size][i])
                of_sparse += share(sparse[size][i], sizes[size]);
            of_dense += share(dense[size][i], sizes[size]);
        }
    printf("{\"slack_sparse\": %.0f, \"slack_dense\": %.0f}\n", of_sparse, of_dense);
    return 0;
}
