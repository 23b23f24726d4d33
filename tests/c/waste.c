/* waste: two sites that ask for less than they get, one that doesn't, and one that grows within its block. Prints what
 * each wastes, as JSON. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long long wasted[4];
static void *volatile last;

static void *keep(int site, void *block, size_t asked)
{
    if (!block)
        abort();
    *(volatile char *)block = 1;
    wasted[site] += malloc_usable_size(block) - asked;
    return last = block;
}

__attribute__((noinline)) static void waste_small(size_t size)
{
    keep(0, malloc(size), size);
}

__attribute__((noinline)) static void waste_page(size_t size)
{
    keep(1, malloc(size), size);
}

__attribute__((noinline)) static void waste_none(size_t size)
{
    keep(2, malloc(size), size);
}

__attribute__((noinline)) static void waste_grown(size_t size)
{
    void *block = malloc(size);
    /* The same class: the block stays, and is better used. */
    keep(3, realloc(block, size + 60), size + 60);
}

int main(void)
{
    for (int i = 0; i < 200000; i++)
        waste_small(136); /* of 160 */
    for (int i = 0; i < 4000; i++)
        waste_page(17000); /* of 20480 */
    for (int i = 0; i < 40000; i++)
        waste_none(1024);
    for (int i = 0; i < 60000; i++)
        waste_grown(450); /* 510 of 512 */
    printf("{\"waste_small\": %llu, \"waste_page\": %llu, \"waste_none\": %llu, \"waste_grown\": %llu}\n", wasted[0],
           wasted[1], wasted[2], wasted[3]);
    return 0;
}
