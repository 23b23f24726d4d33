/* shared_arena [MESSAGES]: an arena in memory that two processes share, through which one sends messages to the other
 * without copying them.
 *
 *     cc -o shared_arena shared_arena.c -lheapsift && ./shared_arena 100000
 *
 * One process owns the arena: it alone allocates and frees, since what the allocator knows of the blocks is its own. The
 * other sees the same pages at the same addresses, because it was forked after they were mapped; it gets pointers through a
 * pipe, reads what they lead to, and passes them back through another, for the owner to free. */
#define _GNU_SOURCE
#include <errno.h>
#include <heapsift/heapsift.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Address space for the messages that are on their way at any time; pages are there when they are first touched. */
#define CAPACITY ((size_t)1 << 28)
/* Messages on their way, at most. A pipe holds so many pointers, so that no process waits for the other in both. */
enum { ON_THE_WAY = 1000 };

struct message {
    size_t bytes;
    unsigned long sum;
    unsigned char body[];
};

static char *region;
static size_t used;

static void fail(const char *what)
{
    fprintf(stderr, "shared_arena: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- The hooks. The arena's lock is held while one runs, and there is one arena, so they need none. ---- */

/* The next piece of the region. */
static void *take(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero, bool *commit,
                  unsigned arena)
{
    (void)hooks, (void)arena;
    size_t start = (used + alignment - 1) & ~(alignment - 1);
    if (start > CAPACITY || size > CAPACITY - start || (new_addr && new_addr != region + start))
        return NULL;
    used = start + size;
    *zero = true;
    *commit = true;
    return region + start;
}

/* MADV_DONTNEED would take the pages from this process only, and they would come back as they were; MADV_REMOVE takes them
 * from the memory object, and so from both. */
static bool purge(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length, unsigned arena)
{
    (void)hooks, (void)size, (void)arena;
    return madvise((char *)addr + offset, length, MADV_REMOVE) != 0;
}

static bool split(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a, size_t size_b, bool committed, unsigned arena)
{
    (void)hooks, (void)addr, (void)size, (void)size_a, (void)size_b, (void)committed, (void)arena;
    return false;
}

static bool merge(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b, size_t size_b, bool committed, unsigned arena)
{
    (void)hooks, (void)addr_a, (void)size_a, (void)addr_b, (void)size_b, (void)committed, (void)arena;
    return false;
}

static extent_hooks_t hooks = { .alloc = take, .purge_forced = purge, .split = split, .merge = merge };

/* ---- The two processes ---- */

static unsigned long sum_of(const unsigned char *body, size_t bytes)
{
    unsigned long sum = bytes;
    for (size_t i = 0; i < bytes; i++)
        sum = sum * 31 + body[i];
    return sum;
}

/* Reads each message, answers in it, and passes it back. */
static void reader(int in, int out)
{
    struct message *message;
    while (read(in, &message, sizeof message) == sizeof message) {
        if (sum_of(message->body, message->bytes) != message->sum) {
            fprintf(stderr, "shared_arena: a message of %zu bytes arrived otherwise than it was sent\n", message->bytes);
            _exit(1);
        }
        message->sum = ~message->sum;
        if (write(out, &message, sizeof message) != sizeof message)
            _exit(2);
    }
    _exit(0);
}

/* Frees a message that has come back. */
static void take_back(int in, int flags)
{
    struct message *message;
    if (read(in, &message, sizeof message) != sizeof message)
        fail("the reader is gone");
    if (sum_of(message->body, message->bytes) != ~message->sum) {
        fprintf(stderr, "shared_arena: the reader's answer did not arrive\n");
        exit(1);
    }
    dallocx(message, flags);
}

static void owner(unsigned arena, unsigned long count, int out, int in)
{
    int flags = MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE;
    unsigned long on_the_way = 0, state = 1, bytes = 0;
    for (unsigned long i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t length = (state >> 33) % ((state >> 60) ? 500 : 50000);
        struct message *message = mallocx(sizeof *message + length, flags);
        if (!message) {
            fprintf(stderr, "shared_arena: the shared memory is full\n");
            exit(1);
        }
        message->bytes = length;
        memset(message->body, (int)i, length);
        message->sum = sum_of(message->body, length);
        bytes += length;
        if (write(out, &message, sizeof message) != sizeof message)
            fail("the reader is gone");
        if (++on_the_way == ON_THE_WAY) {
            for (; on_the_way > ON_THE_WAY / 2; on_the_way--)
                take_back(in, flags);
        }
    }
    for (; on_the_way > 0; on_the_way--)
        take_back(in, flags);
    char name[40];
    snprintf(name, sizeof name, "arena.%u.purge", arena);
    if ((errno = mallctl(name, NULL, NULL, NULL, 0)))
        fail(name);
    printf("%lu messages of %lu bytes passed through %zu bytes of shared memory\n", count, bytes, used);
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    int memory = memfd_create("shared_arena", MFD_CLOEXEC);
    if (memory < 0 || ftruncate(memory, (off_t)CAPACITY))
        fail("memfd_create");
    region = mmap(NULL, CAPACITY, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (region == MAP_FAILED)
        fail("mmap");
    int there[2], back[2];
    if (pipe(there) || pipe(back))
        fail("pipe");
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        reader(there[0], back[1]);
    }
    close(there[0]);
    close(back[1]);
    /* The arena is made behind the fork: the other process doesn't know of it. */
    extent_hooks_t *table = &hooks;
    unsigned arena;
    size_t length = sizeof arena;
    if ((errno = mallctl("arenas.create", &arena, &length, &table, sizeof table)))
        fail("arenas.create");
    owner(arena, count, there[1], back[0]);
    close(there[1]);
    int status;
    if (waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "shared_arena: the reader ended with status %#x\n", (unsigned)status);
        return 1;
    }
    return 0;
}
