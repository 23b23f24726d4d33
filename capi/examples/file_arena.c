/* file_arena write FILE < TEXT; file_arena read FILE: an arena whose memory is a file, so that what is in it is there after
 * the program has ended.
 *
 *     cc -o file_arena file_arena.c -lheapsift
 *     echo the cat and the dog | ./file_arena write words && ./file_arena read words
 *
 * `write` counts the words of its input in a tree, all of whose nodes are blocks of the arena. Blocks hold pointers to each
 * other, so the file is mapped at the same address each time, and its header holds the address of the root. `read`, another
 * process, maps the file, read-only, and walks the tree.
 *
 * What an arena knows of its blocks is not in the file. So a later process may read them, or drop them all at once, as
 * another `write` does, which gives the whole range to a new arena; it can't free one of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <heapsift/heapsift.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the file is mapped: nothing else is there, unless a program asks for it. */
#define ADDRESS ((char *)0x600000000000)
/* How much can be in it. The file is sparse: what is never touched takes no space. */
#define CAPACITY ((size_t)1 << 30)
#define PAGE ((size_t)4096)

struct word {
    struct word *less, *more;
    unsigned long count;
    char text[];
};

/* The first page of the file. */
struct header {
    char magic[16];
    uint64_t address, capacity;
    /* Bytes that the arena has got, this page among them. */
    uint64_t used;
    struct word *root;
    /* Written last: the tree is whole. */
    uint64_t complete;
};

static const char MAGIC[16] = "file_arena 1";
static struct header *const header = (struct header *)ADDRESS;

static void fail(const char *file, const char *what)
{
    fprintf(stderr, "file_arena: %s: %s\n", file, what);
    exit(2);
}

/* ---- The hooks. The arena's lock is held while one runs, and there is one arena, so they need none. ---- */

/* The next piece of the file. */
static void *take(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero, bool *commit,
                  unsigned arena)
{
    (void)hooks, (void)arena;
    size_t start = ((size_t)header->used + alignment - 1) & ~(alignment - 1);
    if (start > CAPACITY || size > CAPACITY - start || (new_addr && new_addr != ADDRESS + start))
        return NULL;
    header->used = start + size;
    /* A sparse file reads as zero. */
    *zero = true;
    *commit = true;
    return ADDRESS + start;
}

/* Takes pages back: MADV_REMOVE makes a hole in the file. Some file systems can't; then the arena keeps the pages. */
static bool purge(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length, unsigned arena)
{
    (void)hooks, (void)size, (void)arena;
    return madvise((char *)addr + offset, length, MADV_REMOVE) != 0;
}

/* Pieces may be cut and joined as the arena likes: it is one mapping. */
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

/* No dalloc and no destroy: the arena keeps what it has got until the process ends. */
static extent_hooks_t hooks = { .alloc = take, .purge_forced = purge, .split = split, .merge = merge };

/* ---- Writing ---- */

static void map(const char *file, int fd, int protection)
{
    if (mmap(ADDRESS, CAPACITY, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != ADDRESS)
        fail(file, errno == EEXIST ? "something else is at the address of the mapping" : strerror(errno));
}

static void add(int flags, const char *text)
{
    struct word **place = &header->root;
    while (*place) {
        int order = strcmp(text, (*place)->text);
        if (order == 0) {
            (*place)->count++;
            return;
        }
        place = order < 0 ? &(*place)->less : &(*place)->more;
    }
    struct word *word = mallocx(sizeof *word + strlen(text) + 1, flags | MALLOCX_ZERO);
    if (!word) {
        fprintf(stderr, "file_arena: the file is full\n");
        exit(1);
    }
    word->count = 1;
    strcpy(word->text, text);
    *place = word;
}

static void write_words(const char *file)
{
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    /* What was there is dropped as a whole: without its length the file has no pages. */
    if (fd < 0 || ftruncate(fd, 0) || ftruncate(fd, (off_t)CAPACITY))
        fail(file, strerror(errno));
    map(file, fd, PROT_READ | PROT_WRITE);
    header->address = (uintptr_t)ADDRESS;
    header->capacity = CAPACITY;
    header->used = PAGE;
    memcpy(header->magic, MAGIC, sizeof MAGIC);
    extent_hooks_t *table = &hooks;
    unsigned arena;
    size_t length = sizeof arena;
    if ((errno = mallctl("arenas.create", &arena, &length, &table, sizeof table)))
        fail("arenas.create", strerror(errno));
    int flags = MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE;
    char text[256];
    while (scanf("%255s", text) == 1)
        add(flags, text);
    /* All of it is on the disk before the header says so. */
    if (msync(ADDRESS, header->used, MS_SYNC))
        fail(file, strerror(errno));
    header->complete = 1;
    if (msync(ADDRESS, PAGE, MS_SYNC))
        fail(file, strerror(errno));
}

/* ---- Reading ---- */

static bool is_inside(const struct word *word)
{
    const char *at = (const char *)word;
    return at >= ADDRESS + PAGE && at + sizeof *word < ADDRESS + header->used;
}

static void print(const struct word *word)
{
    if (!word)
        return;
    if (!is_inside(word)) {
        fprintf(stderr, "file_arena: a pointer leads out of the file\n");
        exit(1);
    }
    print(word->less);
    printf("%lu %s\n", word->count, word->text);
    print(word->more);
}

static void read_words(const char *file)
{
    struct header on_disk;
    struct stat about;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about))
        fail(file, strerror(errno));
    if (pread(fd, &on_disk, sizeof on_disk, 0) != sizeof on_disk || memcmp(on_disk.magic, MAGIC, sizeof MAGIC))
        fail(file, "not written by file_arena");
    if (on_disk.address != (uintptr_t)ADDRESS || on_disk.capacity != CAPACITY || about.st_size != (off_t)CAPACITY)
        fail(file, "written by another version of file_arena, or cut short");
    if (!on_disk.complete)
        fail(file, "the process that wrote it did not get to the end");
    map(file, fd, PROT_READ);
    print(header->root);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "write"))
        write_words(argv[2]);
    else if (argc == 3 && !strcmp(argv[1], "read"))
        read_words(argv[2]);
    else {
        fprintf(stderr, "file_arena: usage: file_arena write FILE < TEXT, file_arena read FILE\n");
        return 2;
    }
    return 0;
}
