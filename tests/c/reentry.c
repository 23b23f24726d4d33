/* reentry BYTES INNER: the arena that serves requests of BYTES gets hooks that allocate INNER bytes, as hooks may, and one that
 * asks for more than there is. Ends by a signal if a hook waits for what its own thread holds. */
#include "allocator.h"
#include <sched.h>

static extent_hooks_t *usual;
static size_t inner, calls, splits;

static bool split_hook(extent_hooks_t *hooks, void *address, size_t bytes, size_t first, size_t second, bool committed, unsigned arena)
{
    splits++;
    void *volatile block = malloc((size_t)1 << 50);
    CHECK(block == NULL);
    return usual->split(hooks, address, bytes, first, second, committed, arena);
}

static void *alloc_hook(extent_hooks_t *hooks, void *wanted, size_t bytes, size_t align, bool *zero, bool *commit, unsigned arena)
{
    calls++;
    char *volatile block = malloc(inner);
    CHECK(block);
    block[inner - 1] = 1;
    free(block);
    return usual->alloc(hooks, wanted, bytes, align, zero, commit, arena);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    find_allocator();
    alarm(60);
    size_t bytes = strtoul(argv[1], NULL, 10);
    inner = strtoul(argv[2], NULL, 10);
    /* Arenas may be those of processors. */
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    CHECK(sched_setaffinity(0, sizeof here, &here) == 0);
    void *block = malloc(bytes);
    unsigned arena;
    size_t length = sizeof arena;
    CHECK(mallctl("arenas.lookup", &arena, &length, &block, sizeof block) == 0);
    usual = READ(extent_hooks_t *, "arena.%u.extent_hooks", arena);
    extent_hooks_t table = *usual;
    table.alloc = alloc_hook;
    table.split = split_hook;
    CHECK(WRITE(extent_hooks_t *, &table, "arena.%u.extent_hooks", arena) == 0);
    static void *volatile blocks[100];
    for (int i = 0; i < 100; i++)
        CHECK(blocks[i] = malloc(bytes));
    CHECK(calls > 0 && splits > 0);
    return 0;
}
