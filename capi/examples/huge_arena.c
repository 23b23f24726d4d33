/* huge_arena [MIB]: an arena whose memory is made of huge pages.
 *
 *     cc -o huge_arena huge_arena.c -lheapsift && ./huge_arena 256
 *
 * The hooks give memory in multiples of 2 MiB, aligned to that: from the reserve of huge pages, if the machine has one
 * (/proc/sys/vm/nr_hugepages), otherwise ordinary memory that the kernel is advised to make huge (MADV_HUGEPAGE). Parts of
 * a huge page are never given back alone, since that would break it up. In the end the program says what the kernel made of
 * it, as /proc/self/smaps has it. */
#define _GNU_SOURCE
#include <errno.h>
#include <heapsift/heapsift.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE ((size_t)2 << 20)

/* The unused end of what was mapped last. */
static char *rest, *rest_end;
/* All that was mapped, by kind. */
static size_t reserved_bytes, advised_bytes;
static char *lowest = (char *)UINTPTR_MAX, *highest;

static void fail(const char *what)
{
    fprintf(stderr, "huge_arena: %s: %s\n", what, strerror(errno));
    exit(2);
}

static size_t round_up(size_t value, size_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

/* ---- The hooks. The arena's lock is held while one runs, and there is one arena, so they need none. ---- */

/* Maps whole huge pages. Sets *pinned for those of the reserve, which can't be given back in part. */
static char *map_huge(size_t size, size_t alignment, bool *pinned)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (alignment <= HUGE) {
        char *block = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
        if (block != MAP_FAILED) {
            *pinned = true;
            reserved_bytes += size;
            return block;
        }
    }
    *pinned = false;
    size_t room = size + (alignment > HUGE ? alignment : HUGE);
    char *start = mmap(NULL, room, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    char *block = (char *)round_up((size_t)start, alignment > HUGE ? alignment : HUGE);
    if (block > start)
        munmap(start, (size_t)(block - start));
    munmap(block + size, (size_t)(start + room - (block + size)));
    /* A kernel without them takes the advice for a mistake; then these are small pages. */
    madvise(block, size, MADV_HUGEPAGE);
    advised_bytes += size;
    return block;
}

/* What is asked for may be less than a huge page: then the next request gets more of the same one. */
static void *take(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero, bool *commit,
                  unsigned arena)
{
    static bool rest_is_pinned;
    (void)hooks, (void)arena;
    if (new_addr)
        return NULL;
    char *block = (char *)round_up((size_t)rest, alignment);
    if (!rest || block > rest_end || size > (size_t)(rest_end - block)) {
        size_t mapped = round_up(size, HUGE);
        if (!(block = map_huge(mapped, alignment, &rest_is_pinned)))
            return NULL;
        rest_end = block + mapped;
        lowest = block < lowest ? block : lowest;
        highest = rest_end > highest ? rest_end : highest;
    }
    rest = block + size;
    *zero = true;
    *commit = true;
    return block + (rest_is_pinned ? EXTENT_ALLOC_FLAG_PINNED : 0);
}

/* Gives the huge pages back that lie in the range as a whole, and clears what is left at its ends, for all of it must read
 * as zero then. Refuses where there is no whole one. */
static bool purge(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length, unsigned arena)
{
    char *start = (char *)addr + offset, *end = start + length;
    char *first = (char *)round_up((size_t)start, HUGE), *last = (char *)((size_t)end & ~(HUGE - 1));
    (void)hooks, (void)size, (void)arena;
    if (first >= last || madvise(first, (size_t)(last - first), MADV_DONTNEED) != 0)
        return true;
    memset(start, 0, (size_t)(first - start));
    memset(last, 0, (size_t)(end - last));
    return false;
}

static bool split(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a, size_t size_b, bool committed, unsigned arena)
{
    (void)hooks, (void)addr, (void)size, (void)size_a, (void)size_b, (void)committed, (void)arena;
    return false;
}

/* Pieces of different mappings may be joined as well: nothing here depends on where a mapping ends. (Pinned and other
 * memory is kept apart by the allocator.) */
static bool merge(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b, size_t size_b, bool committed, unsigned arena)
{
    (void)hooks, (void)addr_a, (void)size_a, (void)addr_b, (void)size_b, (void)committed, (void)arena;
    return false;
}

static extent_hooks_t hooks = { .alloc = take, .purge_forced = purge, .split = split, .merge = merge };

/* KiB of huge pages among the mappings of the arena. */
static size_t huge_kib(void)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[512];
    size_t total = 0;
    bool ours = false;
    if (!smaps)
        fail("/proc/self/smaps");
    while (fgets(line, sizeof line, smaps)) {
        unsigned long from, to;
        size_t kib;
        char permissions[5];
        if (sscanf(line, "%lx-%lx %4s", &from, &to, permissions) == 3)
            ours = (char *)from < highest && (char *)to > lowest;
        else if (ours && (sscanf(line, "AnonHugePages: %zu", &kib) == 1 || sscanf(line, "Private_Hugetlb: %zu", &kib) == 1))
            total += kib;
    }
    fclose(smaps);
    return total;
}

int main(int argc, char **argv)
{
    enum { KINDS = 6 };
    static const size_t sizes[KINDS] = { 40, 300, 2000, 9000, 70000, 500000 };
    size_t wanted = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20, held = 0, count = 0;
    extent_hooks_t *table = &hooks;
    unsigned arena;
    size_t length = sizeof arena;
    if ((errno = mallctl("arenas.create", &arena, &length, &table, sizeof table)))
        fail("arenas.create");
    /* Unused memory stays until it is asked for, so that free pieces can become whole huge pages again. */
    char name[40];
    ssize_t never = -1;
    snprintf(name, sizeof name, "arena.%u.dirty_decay_ms", arena);
    if ((errno = mallctl(name, NULL, NULL, &never, sizeof never)))
        fail(name);
    int flags = MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE;
    char **blocks = malloc(wanted / sizes[0] * sizeof *blocks);
    if (!blocks)
        fail("malloc");
    for (; held < wanted; count++) {
        size_t size = sizes[count % KINDS];
        if (!(blocks[count] = mallocx(size, flags)))
            fail("mallocx");
        memset(blocks[count], (int)count, size);
        held += sallocx(blocks[count], 0);
    }
    size_t huge = huge_kib() >> 10;
    printf("%zu blocks of %zu MiB: %zu MiB reserved, %zu MiB advised, %zu MiB in huge pages\n", count, held >> 20,
           reserved_bytes >> 20, advised_bytes >> 20, huge);
    for (size_t i = 0; i < count; i++) {
        if (blocks[i][0] != (char)i || blocks[i][sizes[i % KINDS] - 1] != (char)i) {
            fprintf(stderr, "huge_arena: block %zu changed\n", i);
            return 1;
        }
        dallocx(blocks[i], flags);
    }
    snprintf(name, sizeof name, "arena.%u.purge", arena);
    if ((errno = mallctl(name, NULL, NULL, NULL, 0)))
        fail(name);
    printf("%zu MiB in huge pages after all were freed\n", huge_kib() >> 10);
    free(blocks);
    return 0;
}
