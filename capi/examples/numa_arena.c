/* numa_arena [NODE...]: an arena for each NUMA node, whose memory is bound to that node.
 *
 *     cc -o numa_arena numa_arena.c -lheapsift && ./numa_arena
 *
 * Without arguments, all nodes that are online. A machine that isn't NUMA has node 0. The hooks bind what they map by
 * mbind(2); everything else is left to the hooks that arenas have anyway. At the end the kernel is asked, by
 * get_mempolicy(2), what holds for each block and where its pages are. */
#define _GNU_SOURCE
#include <errno.h>
#include <heapsift/heapsift.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NODES = 64, BLOCKS = 1000 };

/* The hooks of one node. The allocator passes the address of `hooks` to each of them, which is that of the whole. */
struct node {
    extent_hooks_t hooks;
    unsigned number;
    size_t mapped;
    /* Why memory could not be bound. */
    int error;
};

static struct node nodes[NODES];

static void fail(const char *what)
{
    fprintf(stderr, "numa_arena: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* Maps `size` bytes and binds them before anybody touches them. */
static void *map_bound(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero, bool *commit,
                       unsigned arena)
{
    struct node *node = (struct node *)hooks;
    (void)arena;
    if (new_addr)
        /* "At this address, or not at all": not at all is always a right answer. */
        return NULL;
    /* More than is needed, so that an aligned piece can be cut out. */
    size_t room = size + alignment;
    char *start = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    char *block = (char *)(((uintptr_t)start + alignment - 1) & ~(alignment - 1));
    if (block > start)
        munmap(start, (size_t)(block - start));
    munmap(block + size, (size_t)(start + room - (block + size)));
    unsigned long mask = 1ul << node->number;
    if (syscall(SYS_mbind, block, size, MPOL_BIND, &mask, (unsigned long)NODES + 1, 0)) {
        node->error = errno;
        munmap(block, size);
        return NULL;
    }
    node->mapped += size;
    *zero = true;
    *commit = true;
    return block;
}

/* Takes memory back: false says that it is gone. */
static bool unmap(extent_hooks_t *hooks, void *addr, size_t size, bool committed, unsigned arena)
{
    (void)committed, (void)arena;
    ((struct node *)hooks)->mapped -= size;
    return munmap(addr, size) != 0;
}

static void destroy(extent_hooks_t *hooks, void *addr, size_t size, bool committed, unsigned arena)
{
    unmap(hooks, addr, size, committed, arena);
}

static unsigned create_arena(struct node *node, unsigned number)
{
    /* The hooks that arenas have anyway purge, cut and join as is right for mapped memory, bound or not. */
    extent_hooks_t *usual;
    size_t length = sizeof usual;
    if ((errno = mallctl("arena.0.extent_hooks", &usual, &length, NULL, 0)))
        fail("arena.0.extent_hooks");
    node->number = number;
    node->hooks = *usual;
    node->hooks.alloc = map_bound;
    node->hooks.dalloc = unmap;
    node->hooks.destroy = destroy;
    extent_hooks_t *hooks = &node->hooks;
    unsigned arena;
    length = sizeof arena;
    if ((errno = mallctl("arenas.create", &arena, &length, &hooks, sizeof hooks)))
        fail("arenas.create");
    return arena;
}

/* Fails unless the page at `address` must be on the node, and is. */
static void check(const void *address, unsigned number)
{
    int policy = -1, where = -1;
    unsigned long mask = 0;
    if (syscall(SYS_get_mempolicy, &policy, &mask, (unsigned long)NODES + 1, address, MPOL_F_ADDR))
        fail("get_mempolicy");
    if (syscall(SYS_get_mempolicy, &where, NULL, 0, address, MPOL_F_NODE | MPOL_F_ADDR))
        fail("get_mempolicy");
    if (policy != MPOL_BIND || mask != 1ul << number || where != (int)number) {
        fprintf(stderr, "numa_arena: %p has policy %d, nodes %#lx, and is on node %d\n", address, policy, mask, where);
        exit(1);
    }
}

static void use(unsigned number)
{
    static char *blocks[BLOCKS];
    struct node *node = &nodes[number];
    unsigned arena = create_arena(node, number);
    /* Without a thread cache: a cache would mix blocks of different nodes. */
    int flags = MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE;
    size_t bytes = 0;
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = i % 50 == 0 ? 300000 : (size_t)i % 2000 + 1;
        if (!(blocks[i] = mallocx(size, flags))) {
            fprintf(stderr, "numa_arena: node %u: %s\n", number, node->error ? strerror(node->error) : "out of memory");
            exit(2);
        }
        memset(blocks[i], i, size);
        bytes += sallocx(blocks[i], 0);
        check(blocks[i], number);
    }
    for (int i = 0; i < BLOCKS; i++)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    size_t mapped = node->mapped;
    char name[40];
    snprintf(name, sizeof name, "arena.%u.destroy", arena);
    if ((errno = mallctl(name, NULL, NULL, NULL, 0)))
        fail(name);
    printf("node %u: %d blocks of %zu bytes in %zu bytes bound to it, %zu after the arena's end\n", number, BLOCKS, bytes,
           mapped, node->mapped);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        for (int i = 1; i < argc; i++) {
            unsigned long number = strtoul(argv[i], NULL, 10);
            if (number >= NODES) {
                fprintf(stderr, "numa_arena: node %s: there can be 0 to %d\n", argv[i], NODES - 1);
                return 2;
            }
            use((unsigned)number);
        }
        return 0;
    }
    for (unsigned number = 0; number < NODES; number++) {
        char directory[64];
        snprintf(directory, sizeof directory, "/sys/devices/system/node/node%u", number);
        if (number == 0 || access(directory, F_OK) == 0)
            use(number);
    }
    return 0;
}
