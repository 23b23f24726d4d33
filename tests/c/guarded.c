/* guarded KIND SIZE [locked]: with every small block guarded (prof_guard:1), one wrong access of a kind, in functions that a
 * report can name. "works" and "ordinary" do nothing wrong with blocks. The pages of guarded blocks are locked first where
 * that is asked for; exit status 77: the kernel doesn't allow it. */
#include "allocator.h"
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

__attribute__((noinline)) static char *take_block(size_t size)
{
    char *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    return block;
}

__attribute__((noinline)) static void give_block(char *block)
{
    free(block);
    __asm__ volatile("");
}

__attribute__((noinline)) static void put_byte(volatile char *at)
{
    *at = 5;
    __asm__ volatile("");
}

__attribute__((noinline)) static int look_at_byte(volatile char *at)
{
    int seen = *at;
    __asm__ volatile("");
    return seen;
}

/* Those of most places: as many blocks as are guarded at once have one each. */
static int lock_pages(void)
{
    enum { BLOCKS = 96 };
    static char *blocks[BLOCKS];
    int done = 1;
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = take_block(64);
        done &= mlock(blocks[i], 64) == 0;
    }
    for (int i = 0; i < BLOCKS; i++)
        give_block(blocks[i]);
    return done;
}

static void *give_elsewhere(void *block)
{
    give_block(block);
    return NULL;
}

static void fill(char *block, size_t size, int seed)
{
    for (size_t i = 0; i < size; i++)
        block[i] = (char)(seed + i);
}

static void verify(const char *block, size_t size, int seed)
{
    for (size_t i = 0; i < size; i++)
        CHECK(block[i] == (char)(seed + i));
}

static uint64_t counter(const char *name)
{
    uint64_t value = 0, one = 1;
    size_t length = sizeof value;
    CHECK(mallctl("epoch", NULL, NULL, &one, sizeof one) == 0);
    CHECK(mallctl(name, &value, &length, NULL, 0) == 0);
    return value;
}

/* Every function of the allocator, with sizes and alignments around a page, and more blocks than are guarded at once. */
static void works(void)
{
    enum { BLOCKS = 400 };
    static char *blocks[BLOCKS];
    static size_t sizes[BLOCKS];
    uint64_t before = counter("stats.allocated");
    for (int round = 0; round < 30; round++) {
        uint64_t mine = counter("thread.allocated"), expected = 0;
        for (int i = 0; i < BLOCKS; i++) {
            size_t size = 1 + (size_t)(i * 37 + round * 11) % 5000, align = (size_t)1 << (i % 14);
            char *block;
            switch (i % 4) {
            case 0:
                block = malloc(size);
                expected += nallocx(size, 0);
                break;
            case 1:
                block = calloc(1, size);
                for (size_t k = 0; k < size; k++)
                    CHECK(block[k] == 0);
                expected += nallocx(size, 0);
                break;
            case 2:
                block = aligned_alloc(align, size);
                CHECK((uintptr_t)block % align == 0);
                expected += nallocx(size, MALLOCX_ALIGN(align));
                break;
            default:
                block = mallocx(size, MALLOCX_ZERO | MALLOCX_ALIGN(align));
                CHECK((uintptr_t)block % align == 0 && block[size - 1] == 0);
                expected += nallocx(size, MALLOCX_ALIGN(align));
            }
            CHECK(block != NULL && (uintptr_t)block % (size > 8 ? 16 : 8) == 0);
            size_t usable = malloc_usable_size(block);
            CHECK(usable >= size && usable <= nallocx(size, MALLOCX_ALIGN(align)));
            blocks[i] = block;
            sizes[i] = usable;
            fill(block, usable, i);
        }
        CHECK_EQUAL(counter("thread.allocated") - mine, expected);
        for (int i = 0; i < BLOCKS; i++) {
            verify(blocks[i], sizes[i], i);
            if (i % 3 == 0) {
                size_t size = 1 + (size_t)(i * 53 + round) % 9000, kept = size < sizes[i] ? size : sizes[i];
                blocks[i] = realloc(blocks[i], size);
                CHECK(blocks[i] != NULL);
                verify(blocks[i], kept, i);
                fill(blocks[i], size, i);
                sizes[i] = size;
            } else if (i % 3 == 1) {
                size_t usable = xallocx(blocks[i], sizes[i] + 100, 100, 0);
                CHECK(usable == sallocx(blocks[i], 0));
                verify(blocks[i], usable < sizes[i] ? usable : sizes[i], i);
            }
        }
        if (round % 10 == 0) {
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                for (int i = 0; i < BLOCKS; i++) {
                    verify(blocks[i], sizes[i] < 8 ? sizes[i] : 8, i);
                    free(blocks[i]);
                    CHECK(malloc(64) != NULL);
                }
                _exit(0);
            }
            int status = -1;
            CHECK(waitpid(child, &status, 0) == child);
            CHECK_EQUAL(status, 0);
        }
        for (int i = 0; i < BLOCKS; i++) {
            if (i % 5 == 0) {
                pthread_t thread;
                CHECK(pthread_create(&thread, NULL, give_elsewhere, blocks[i]) == 0);
                CHECK(pthread_join(thread, NULL) == 0);
            } else {
                free(blocks[i]);
            }
        }
    }
    uint64_t after = counter("stats.allocated");
    /* What the C library has kept of threads is not ours. */
    CHECK(after < before + 65536);
    CHECK(counter("stats.active") >= after);
}

static void handler(int signal)
{
    (void)signal;
    static const char mine[] = "the program's own\n";
    CHECK(write(1, mine, sizeof mine - 1) == sizeof mine - 1);
    _exit(7);
}

/* The C library doesn't know the environment yet. */
static void install(int argc, char **argv, char **environment)
{
    (void)argc, (void)argv;
    for (; *environment; environment++)
        if (!strcmp(*environment, "WITH_HANDLER=1"))
            signal(SIGSEGV, handler);
}

/* Before any constructor, that of a preloaded library included. */
__attribute__((section(".preinit_array"), used)) static void (*early)(int, char **, char **) = install;

int main(int argc, char **argv)
{
    find_allocator();
    CHECK(argc == 3 || argc == 4);
    if (argc == 4 && !lock_pages())
        return 77;
    const char *kind = argv[1];
    size_t size = strtoul(argv[2], NULL, 10);
    char *block = take_block(size);
    pthread_t thread;
    if (!strcmp(kind, "works")) {
        works();
    } else if (!strcmp(kind, "write-after-free")) {
        give_block(block);
        put_byte(block + 5);
    } else if (!strcmp(kind, "read-after-free")) {
        give_block(block);
        CHECK(look_at_byte(block + 5) == 1);
    } else if (!strcmp(kind, "read-after-free-elsewhere")) {
        CHECK(pthread_create(&thread, NULL, give_elsewhere, block) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(look_at_byte(block + 5) == 1);
    } else if (!strcmp(kind, "read-after-many-frees")) {
        give_block(block);
        for (int i = 0; i < 25; i++)
            give_block(take_block(size));
        CHECK(look_at_byte(block + 5) == 1);
    } else if (!strcmp(kind, "overflow")) {
        put_byte(block + (size + 15) / 16 * 16);
    } else if (!strcmp(kind, "overflow-within-alignment")) {
        put_byte(block + size);
        give_block(block);
    } else if (!strcmp(kind, "underflow")) {
        put_byte(block - 1);
        give_block(block);
    } else if (!strcmp(kind, "far-underflow")) {
        put_byte((char *)((uintptr_t)block & ~(uintptr_t)4095) - 1);
    } else if (!strcmp(kind, "twice")) {
        give_block(block);
        give_block(block);
    } else if (!strcmp(kind, "inside")) {
        give_block(block + 16);
    } else if (!strcmp(kind, "ordinary")) {
        put_byte((char *)(uintptr_t)64);
    } else if (!strcmp(kind, "sent")) {
        kill(getpid(), SIGSEGV);
    } else {
        dprintf(2, "no kind %s\n", kind);
        return 2;
    }
    return 0;
}
