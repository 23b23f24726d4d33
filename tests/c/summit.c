/* summit MIB ROUNDS: climbs to MIB MiB in blocks of several sizes, frees, climbs to half of it, and so on; then frees all
 * and exits. Prints the most usable bytes that were ever live, of all and of each of its two sites, as JSON.
 *
 * A third of the blocks live at the summit is freed by another thread. */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long long live, summit, at_summit[2], site_live[2];
static void *blocks[1 << 20];
static unsigned char sites[1 << 20];
static unsigned long count;

static void keep(int site, void *block)
{
    if (!block || count == sizeof blocks / sizeof *blocks)
        abort();
    *(volatile char *)block = 1;
    unsigned long long size = malloc_usable_size(block);
    live += size;
    site_live[site] += size;
    sites[count] = site;
    blocks[count++] = block;
    if (live > summit) {
        summit = live;
        at_summit[0] = site_live[0];
        at_summit[1] = site_live[1];
    }
}

__attribute__((noinline)) static void summit_small(size_t size)
{
    keep(0, malloc(size));
}

__attribute__((noinline)) static void summit_large(size_t size)
{
    keep(1, malloc(size));
}

static void climb(unsigned long long to)
{
    for (unsigned i = 0; live < to; i++)
        if (i % 64 == 63)
            summit_large(64 << 10);
        else
            summit_small(256 + i % 16 * 64);
}

static void descend(unsigned long to)
{
    while (count > to) {
        void *block = blocks[--count];
        unsigned long long size = malloc_usable_size(block);
        live -= size;
        site_live[sites[count]] -= size;
        free(block);
    }
}

static void *free_a_third(void *unused)
{
    descend(count / 3 * 2);
    return unused;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    unsigned long long top = strtoull(argv[1], 0, 0) << 20;
    for (int round = atoi(argv[2]); round > 0; round--) {
        climb(top);
        pthread_t thread;
        if (pthread_create(&thread, 0, free_a_third, 0) || pthread_join(thread, 0))
            abort();
        descend(count / 10);
        top = top / 10 * 9;
    }
    descend(0);
    printf("{\"summit\": %llu, \"summit_small\": %llu, \"summit_large\": %llu}\n", summit, at_summit[0], at_summit[1]);
    return 0;
}
