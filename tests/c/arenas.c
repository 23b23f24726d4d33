/* arenas WHAT: arenas, caches, guard pages and background threads as a program asks for them; see `parts` for WHAT.
 * Exits 0 if all is as it should be. Some parts want options, which the test that runs them gives. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "allocator.h"

enum { PAGE = 4096 };

/* Whether a byte can be written. */
static sigjmp_buf faulted;

static void on_fault(int number)
{
    siglongjmp(faulted, number);
}

static bool writable(volatile char *byte)
{
    struct sigaction action = { .sa_handler = on_fault }, before;
    sigaction(SIGSEGV, &action, &before);
    bool answer = false;
    if (!sigsetjmp(faulted, 1)) {
        *byte = *byte;
        answer = true;
    }
    sigaction(SIGSEGV, &before, NULL);
    return answer;
}


/* san_guard_large:2,san_guard_small:3 */
static void guards(void)
{
    int fences = 0;
    char *large[100];
    unsigned arena = create_arena(NULL);
    for (int i = 0; i < 100; i++) {
        large[i] = mallocx(50000, MALLOCX_ARENA(arena) | MALLOCX_ZERO);
        size_t usable = sallocx(large[i], 0);
        CHECK_EQUAL(usable, 53248);
        for (size_t at = 0; at < usable; at += 512)
            CHECK_EQUAL(large[i][at], 0);
        fill_block((unsigned char *)large[i], usable, (unsigned)i);
        fences += !writable(large[i] - 1) && !writable(large[i] + usable);
    }
    /* Without retained memory each block is a mapping, which the kernel lays next to the one before: all that have no
     * fence may lie between those that have. */
    bool each_mapped = !READ(bool, "opt.retain");
    CHECK(fences >= 50 && (fences < 100 || each_mapped));
    /* Slabs of one block each. */
    int slabs = 0;
    char *small[90];
    for (int i = 0; i < 90; i++) {
        small[i] = mallocx(4096, MALLOCX_ARENA(arena));
        fill_block((unsigned char *)small[i], 4096, (unsigned)i);
        slabs += !writable(small[i] - 1) && !writable(small[i] + 4096);
    }
    /* Beyond its third, those that lie at the end of a mapping by chance. */
    CHECK(slabs >= 30 && (slabs < 90 || each_mapped));
    size_t active = FRESH(size_t, "stats.arenas.%u.pactive", arena);
    CHECK_EQUAL(active, 100 * 13 + 90);
    /* Aligned blocks have none, and a block with a fence can't grow into it. */
    for (int i = 0; i < 4; i++) {
        char *aligned = mallocx(50000, MALLOCX_ARENA(arena) | MALLOCX_ALIGN(8192));
        CHECK(((uintptr_t)aligned & 8191) == 0);
        dallocx(aligned, MALLOCX_TCACHE_NONE);
    }
    for (int i = 0; i < 100; i++) {
        size_t grown = xallocx(large[i], 60000, 0, 0);
        CHECK(grown == 53248 || (grown == 61440 && writable(large[i] + 60000)));
        CHECK(is_filled((unsigned char *)large[i], 53248, (unsigned)i));
        large[i] = rallocx(large[i], 30000 + (size_t)i * 1000, MALLOCX_ARENA(arena));
        CHECK(is_filled((unsigned char *)large[i], 30000, (unsigned)i));
    }
    for (int i = 0; i < 100; i++)
        dallocx(large[i], MALLOCX_TCACHE_NONE);
    for (int i = 0; i < 90; i++) {
        CHECK(is_filled((unsigned char *)small[i], 4096, (unsigned)i));
        dallocx(small[i], MALLOCX_TCACHE_NONE);
    }
    /* A bin keeps the slab that it takes blocks from. */
    CHECK(FRESH(size_t, "stats.arenas.%u.pactive", arena) <= 1);
    /* The fences are gone with the blocks: all of it can be used and given back. */
    char *whole = mallocx(8 << 20, MALLOCX_ARENA(arena));
    memset(whole, 1, 8 << 20);
    dallocx(whole, MALLOCX_TCACHE_NONE);
    CHECK(DO("arena.%u.destroy", arena) == 0);
}

static size_t address_space(void)
{
    char text[64];
    FILE *file = fopen("/proc/self/statm", "r");
    setvbuf(file, NULL, _IONBF, 0);
    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
    return strtoul(text, NULL, 10) * PAGE;
}

/* retain:false,dirty_decay_ms:-1: where address space has an end, what is unused makes room for a request that fits no gap. */
static void limited(void)
{
    enum { BLOCKS = 200 };
    unsigned arena = create_arena(NULL);
    static void *blocks[BLOCKS], *between[BLOCKS];
    struct rlimit limit = { address_space() + ((size_t)300 << 20), RLIM_INFINITY };
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = mallocx(1 << 20, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
        between[i] = mallocx(65536, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
        CHECK(blocks[i] && between[i]);
    }
    for (int i = 0; i < BLOCKS; i++)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    CHECK(FRESH(size_t, "stats.arenas.%u.pdirty", arena) >= BLOCKS * (1 << 20) / PAGE);
    void *large = mallocx((size_t)150 << 20, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
    CHECK(large != NULL);
    dallocx(large, MALLOCX_TCACHE_NONE);
    for (int i = 0; i < BLOCKS; i++)
        dallocx(between[i], MALLOCX_TCACHE_NONE);
}

/* What is freed and purged is unmapped with retain:false, and kept with retain:true. */
static void retention(bool retain)
{
    unsigned arena = create_arena(NULL);
    static char *blocks[64];
    size_t before = address_space();
    for (int i = 0; i < 64; i++) {
        blocks[i] = mallocx((1 << 20) - 300, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
        memset(blocks[i], 1, 1 << 20);
    }
    CHECK(address_space() - before >= (size_t)64 << 20);
    for (int i = 0; i < 64; i += 2)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    CHECK(DO("arena.%u.purge", arena) == 0);
    size_t half = address_space() - before, retained = FRESH(size_t, "stats.arenas.%u.retained", arena);
    CHECK(READ(size_t, "stats.arenas.%u.mapped", arena) < (size_t)34 << 20);
    for (int i = 1; i < 64; i += 2)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    CHECK(DO("arena.%u.purge", arena) == 0);
    size_t rest = address_space() - before;
    if (retain) {
        CHECK(half >= (size_t)64 << 20 && rest >= (size_t)64 << 20);
        CHECK(retained >= (size_t)32 << 20 && FRESH(size_t, "stats.arenas.%u.retained", arena) >= (size_t)64 << 20);
        CHECK_EQUAL(READ(size_t, "arena.%u.retain_grow_limit", arena), (size_t)7 << 60);
        CHECK(DO("arena.%u.destroy", arena) == 0);
        CHECK((ssize_t)(address_space() - before) < 8 << 20);
    } else {
        /* Metadata comes on top, and a leaf of the page map of 2 MiB for one GiB or two. */
        CHECK(half <= (size_t)40 << 20 && rest <= (size_t)8 << 20);
        CHECK(retained == 0 && FRESH(size_t, "stats.retained") == 0);
        size_t limit, length = sizeof limit;
        char name[64];
        CHECK(mallctl(NAMED(name, "arena.%u.retain_grow_limit", arena), &limit, &length, NULL, 0) == ENOENT);
    }
    /* With decay 0 nothing waits for a purge. */
    unsigned hasty = create_arena(NULL);
    CHECK(WRITE(ssize_t, 0, "arena.%u.dirty_decay_ms", hasty) == 0);
    char *block = mallocx(5 << 20, MALLOCX_ARENA(hasty));
    memset(block, 1, 5 << 20);
    dallocx(block, MALLOCX_TCACHE_NONE);
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.pdirty", hasty), 0);
}

static void kept(void)
{
    retention(true);
}

static void unmapped(void)
{
    retention(false);
}

/* Memory from the end of the data segment. */
static void data_segment(void)
{
    char *low = sbrk(0);
    unsigned first = create_arena(NULL), never = create_arena(NULL);
    const char *word = "primary";
    const char *was = NULL;
    size_t length = sizeof was;
    char name[64];
    CHECK(mallctl(NAMED(name, "arena.%u.dss", first), &was, &length, &word, sizeof word) == 0 && !strcmp(was, "secondary"));
    CHECK(!strcmp(READ(char *, "arena.%u.dss", first), "primary"));
    CHECK(!strcmp(FRESH(char *, "stats.arenas.%u.dss", first), "primary"));
    word = "disabled";
    CHECK(mallctl(NAMED(name, "arena.%u.dss", never), NULL, NULL, &word, sizeof word) == 0);
    char *blocks[200];
    for (int i = 0; i < 200; i++) {
        size_t bytes = (size_t)(i + 1) * 1000;
        blocks[i] = mallocx(bytes, MALLOCX_ARENA(first) | MALLOCX_ZERO);
        CHECK(blocks[i] >= low && blocks[i] + bytes <= (char *)sbrk(0));
        for (size_t at = 0; at < bytes; at += 100)
            CHECK_EQUAL(blocks[i][at], 0);
        memset(blocks[i], i, bytes);
        /* The program moves the end as well, and not by pages. */
        if (i % 50 == 25) {
            char *own = sbrk(100);
            CHECK(own != (void *)-1);
            memset(own, 77, 100);
        }
        char *other = mallocx(bytes, MALLOCX_ARENA(never));
        CHECK(other < low || other >= (char *)sbrk(0));
        dallocx(other, MALLOCX_TCACHE_NONE);
    }
    for (int i = 0; i < 200; i++) {
        CHECK(blocks[i][0] == (char)i && blocks[i][(i + 1) * 1000 - 1] == (char)i);
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    }
    CHECK(DO("arena.%u.purge", first) == 0);
    /* It stays, and is used again. */
    char *again = mallocx(100000, MALLOCX_ARENA(first) | MALLOCX_ZERO);
    CHECK(again >= low && again < (char *)sbrk(0));
    for (int i = 0; i < 100000; i++)
        CHECK_EQUAL(again[i], 0);
    CHECK(DO("arena.%u.destroy", first) == 0);
}

static unsigned arena_of(void *block)
{
    unsigned index;
    size_t length = sizeof index;
    CHECK(mallctl("arenas.lookup", &index, &length, &block, sizeof block) == 0);
    return index;
}

static unsigned create_cache(void)
{
    return READ(unsigned, "tcache.create");
}

static void *in_another_thread(void *argument)
{
    unsigned *cache = argument;
    void *blocks[300];
    for (int i = 0; i < 300; i++)
        blocks[i] = mallocx(64, MALLOCX_TCACHE(*cache));
    for (int i = 0; i < 300; i++)
        dallocx(blocks[i], MALLOCX_TCACHE(*cache));
    return NULL;
}

/* Caches and arenas that requests name. */
static void flags(void)
{
    unsigned one = create_arena(NULL), two = create_arena(NULL);
    for (int i = 0; i < 200; i++) {
        size_t bytes = 1 + (size_t)i * 300;
        void *a = mallocx(bytes, MALLOCX_ARENA(one)), *b = mallocx(bytes, MALLOCX_ARENA(two) | MALLOCX_TCACHE_NONE);
        CHECK(arena_of(a) == one && arena_of(b) == two);
        /* A resized block goes where it is said. */
        void *c = rallocx(a, bytes * 3 + 20000, MALLOCX_ARENA(two) | MALLOCX_TCACHE_NONE);
        CHECK(c == a || arena_of(c) == two);
        dallocx(b, MALLOCX_TCACHE_NONE);
        sdallocx(c, bytes * 3 + 20000, MALLOCX_TCACHE_NONE);
    }
    CHECK(!mallocx(100, MALLOCX_ARENA(4000)));
    new_epoch();
    CHECK_EQUAL(READ(size_t, "stats.arenas.%u.small.allocated", one), 0);
    CHECK_EQUAL(READ(size_t, "stats.arenas.%u.large.allocated", two), 0);

    /* A cache keeps what is freed into it, and hands it out first. */
    unsigned cache = create_cache(), other = create_cache();
    CHECK(cache != other);
    void *blocks[8];
    int with = MALLOCX_TCACHE(cache) | MALLOCX_ARENA(one);
    for (int i = 0; i < 8; i++) {
        blocks[i] = mallocx(200, with);
        CHECK_EQUAL(arena_of(blocks[i]), one);
    }
    for (int i = 0; i < 8; i++)
        dallocx(blocks[i], with);
    for (int i = 7; i >= 0; i--)
        CHECK(mallocx(200, MALLOCX_TCACHE(cache)) == blocks[i]);
    void *elsewhere = mallocx(200, MALLOCX_TCACHE(other) | MALLOCX_ARENA(two));
    CHECK_EQUAL(arena_of(elsewhere), two);
    /* A block of any arena may lie in any cache. */
    dallocx(elsewhere, MALLOCX_TCACHE(cache));
    CHECK(mallocx(200, MALLOCX_TCACHE(cache)) == elsewhere);
    for (int i = 0; i < 8; i++)
        dallocx(blocks[i], MALLOCX_TCACHE(cache));
    CHECK(FRESH(size_t, "stats.arenas.%u.bins.11.curregs", one) > 0);
    CHECK(WRITE(unsigned, cache, "tcache.flush") == 0);
    dallocx(elsewhere, MALLOCX_TCACHE_NONE);
    CHECK(WRITE(unsigned, other, "tcache.flush") == 0);
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.small.allocated", one), 0);
    CHECK_EQUAL(READ(size_t, "stats.arenas.%u.small.allocated", two), 0);
    /* Without a cache a free is seen at once. */
    void *direct = mallocx(200, MALLOCX_ARENA(one) | MALLOCX_TCACHE_NONE);
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.small.allocated", one), 224);
    dallocx(direct, MALLOCX_TCACHE_NONE);
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.small.allocated", one), 0);
    /* A cache isn't bound to a thread. */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, in_another_thread, &cache) == 0 && pthread_join(thread, NULL) == 0);
    in_another_thread(&cache);
    CHECK(WRITE(unsigned, cache, "tcache.destroy") == 0);
    CHECK_EQUAL(create_cache(), cache);
    CHECK(WRITE(unsigned, other, "tcache.destroy") == 0 && WRITE(unsigned, cache, "tcache.destroy") == 0);
    /* Many of them. */
    enum { MANY = 500 };
    static unsigned many[MANY];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            many[i] = create_cache();
            void *block = mallocx(48, MALLOCX_TCACHE(many[i]));
            dallocx(block, MALLOCX_TCACHE(many[i]));
        }
        for (int i = 0; i < MANY; i++)
            CHECK(WRITE(unsigned, many[i], "tcache.destroy") == 0);
    }
}

/* arena.<i>.reset and destroy with prof:true,lg_prof_sample:0: a dump before and one after. */
static void reset(void)
{
    unsigned arena = create_arena(NULL);
    for (int i = 0; i < 1000; i++) {
        CHECK(mallocx(500, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE));
        CHECK(mallocx(20000, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE));
    }
    size_t before = FRESH(size_t, "stats.allocated");
    const char *file = "before.pb.gz";
    CHECK(WRITE(const char *, file, "prof.dump") == 0);
    CHECK(DO("arena.%u.reset", arena) == 0);
    CHECK(before - FRESH(size_t, "stats.allocated") >= 1000 * (512 + 20480));
    file = "after.pb.gz";
    CHECK(WRITE(const char *, file, "prof.dump") == 0);
    /* The places are used again, and sampled anew. */
    void *blocks[2000];
    for (int i = 0; i < 2000; i++)
        blocks[i] = mallocx(500, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
    file = "again.pb.gz";
    CHECK(WRITE(const char *, file, "prof.dump") == 0);
    for (int i = 0; i < 2000; i++)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    CHECK(DO("arena.%u.destroy", arena) == 0);
    CHECK(DO("arena.%u.destroy", arena) != 0 && DO("arena.0.reset") == EFAULT && DO("arena.0.destroy") == EFAULT);
    file = "destroyed.pb.gz";
    CHECK(WRITE(const char *, file, "prof.dump") == 0);
    /* Its number is given to the next one. */
    CHECK_EQUAL(create_arena(NULL), arena);
}

static volatile bool stop;

static void *churn(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    void *held[100] = { NULL };
    while (!stop) {
        int slot = (int)(draw(&state) % 100);
        free(held[slot]);
        held[slot] = malloc(draw(&state) % 300000);
    }
    for (int i = 0; i < 100; i++)
        free(held[i]);
    return NULL;
}

static size_t background_threads(void)
{
    return FRESH(size_t, "stats.background_thread.num_threads");
}

static int kernel_threads(void)
{
    char text[4096];
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(file);
    int count = -1;
    while (fgets(text, sizeof text, file))
        sscanf(text, "Threads: %d", &count);
    fclose(file);
    return count;
}

/* Once those that have been joined are gone, which the kernel counts for a moment more. */
static int kernel_threads_left(void)
{
    for (int i = 0; i < 5000 && kernel_threads() > 1; i++)
        usleep(1000);
    return kernel_threads();
}

/* The pages of a block that is freed go back within seconds, though nobody calls. */
static void pages_go_back(void)
{
    unsigned arena = create_arena(NULL);
    CHECK(WRITE(ssize_t, 100, "arena.%u.dirty_decay_ms", arena) == 0);
    char *block = mallocx(32 << 20, MALLOCX_ARENA(arena));
    memset(block, 1, 32 << 20);
    dallocx(block, MALLOCX_TCACHE_NONE);
    int tenths = 0;
    while (resident_pages(block, 32 << 20) > 0) {
        CHECK(++tenths < 300);
        usleep(100000);
    }
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.pdirty", arena), 0);
    CHECK(DO("arena.%u.destroy", arena) == 0);
}

static void in_child(void)
{
    alarm(60);
    CHECK(!READ(bool, "background_thread"));
    CHECK_EQUAL(background_threads(), 0);
    CHECK_EQUAL(kernel_threads(), 1);
    free(malloc(1 << 20));
    CHECK(WRITE(bool, true, "background_thread") == 0);
    CHECK(READ(bool, "background_thread") && background_threads() >= 1);
    pages_go_back();
    CHECK(WRITE(bool, false, "background_thread") == 0);
    CHECK_EQUAL(background_threads(), 0);
    exit(0);
}

/* background_thread:true */
static void background(void)
{
    CHECK(READ(bool, "background_thread") && READ(bool, "opt.background_thread"));
    CHECK(background_threads() >= 1 && kernel_threads() >= 2);
    /* As a service does that gives up its rights: the C library has every thread do it, and waits for each. */
    CHECK(setgid(getgid()) == 0 && setuid(getuid()) == 0);
    pages_go_back();
    CHECK(READ(uint64_t, "stats.background_thread.num_runs") > 0);
    /* So do those of an arena that comes in the place of a destroyed one, while the thread sleeps. */
    sleep(1);
    pages_go_back();
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (!child)
            in_child();
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(READ(bool, "background_thread"));
    pages_go_back();
    CHECK(WRITE(size_t, 1, "max_background_threads") == 0 && READ(size_t, "max_background_threads") == 1);
    pages_go_back();
    CHECK_EQUAL(background_threads(), 1);
    CHECK(WRITE(bool, false, "background_thread") == 0);
    CHECK_EQUAL(background_threads(), 0);
    CHECK_EQUAL(kernel_threads_left(), 1);
}

/* background_thread:true, in a group with little memory: what is unused goes at once, however long it might stay. */
static void background_short(void)
{
    enum { BYTES = 93 << 20 };
    unsigned arenas[2] = { create_arena(NULL), create_arena(NULL) };
    char *blocks[2];
    for (int i = 0; i < 2; i++) {
        CHECK(WRITE(ssize_t, i ? -1 : 1000000, "arena.%u.dirty_decay_ms", arenas[i]) == 0);
        blocks[i] = mallocx(BYTES, MALLOCX_ARENA(arenas[i]));
        memset(blocks[i], 1, BYTES);
    }
    /* That of the second one stays: so it was asked for. */
    for (int i = 0; i < 2; i++)
        dallocx(blocks[i], MALLOCX_TCACHE_NONE);
    int tenths = 0;
    while (resident_pages(blocks[0], BYTES) > 0) {
        CHECK(++tenths < 300);
        usleep(100000);
    }
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.pdirty", arenas[1]), BYTES / PAGE);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* background_thread:true: threads that have nothing to do sleep while pages of one arena come and go. */
static void background_calm(void)
{
    unsigned busy = create_arena(NULL);
    for (int i = 0; i < 3; i++)
        create_arena(NULL);
    while (background_threads() < 4)
        usleep(10000);
    /* By then each of them has found that there is nothing. */
    sleep(1);
    uint64_t runs = FRESH(uint64_t, "stats.background_thread.num_runs");
    double start = now();
    for (int i = 0; i < 30000 || now() - start < 1; i++) {
        void *block = mallocx(1 << 20, MALLOCX_ARENA(busy) | MALLOCX_TCACHE_NONE);
        CHECK(block);
        dallocx(block, MALLOCX_TCACHE_NONE);
    }
    double tenths = (now() - start) * 10;
    runs = FRESH(uint64_t, "stats.background_thread.num_runs") - runs;
    if (runs > 4 * (2 * tenths + 10))
        printf("%ju rounds in %.0f tenths of a second\n", (uintmax_t)runs, tenths);
    CHECK(runs <= 4 * (2 * tenths + 10));
}

static void *toggle(void *argument)
{
    for (int i = 0; !stop; i++) {
        int answer = WRITE(bool, i % 2 == 0, "background_thread");
        CHECK_EQUAL(answer, 0);
    }
    return argument;
}

/* Background threads start and stop while threads allocate and children are made. */
static void background_toggled(void)
{
    pthread_t threads[5];
    for (intptr_t i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
    for (intptr_t i = 3; i < 5; i++)
        CHECK(pthread_create(&threads[i], NULL, toggle, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        pid_t child = fork();
        if (!child) {
            alarm(20);
            CHECK(!READ(bool, "background_thread"));
            CHECK_EQUAL(background_threads(), 0);
            for (int j = 0; j < 4; j++) {
                CHECK(WRITE(bool, j % 2 == 0, "background_thread") == 0);
                free(malloc(1 << 20));
            }
            CHECK_EQUAL(kernel_threads_left(), 1);
            if (i % 2)
                exit(0);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK_EQUAL(status, 0);
    }
    stop = true;
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    CHECK(WRITE(bool, false, "background_thread") == 0);
    CHECK_EQUAL(background_threads(), 0);
    CHECK(WRITE(bool, true, "background_thread") == 0);
    CHECK(background_threads() >= 1);
    pages_go_back();
    /* Exit with threads that run. */
}

/* A thread that did much and does little, all of it out of its cache, gives back what it had for the much. */
static void idle_cache(void)
{
    enum { BLOCKS = 8 };
    /* In a small heap it would not have so much. */
    void *blocks[BLOCKS], *rest = malloc(16 << 20);
    CHECK(rest != NULL);
    for (int i = 0; i < BLOCKS; i++)
        CHECK((blocks[i] = malloc(100000)) != NULL);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    CHECK(FRESH(size_t, "stats.arenas.4096.tcache_bytes") >= BLOCKS * 100000);
    for (int i = 0; i < 40; i++) {
        for (int j = 0; j < 1000; j++) {
            void *volatile block = malloc(100);
            free(block);
        }
        usleep(20000);
    }
    CHECK(FRESH(size_t, "stats.arenas.4096.tcache_bytes") < 100000);
    free(rest);
}

enum { MANY = 200 };
static pthread_barrier_t are_there, have_cached, have_looked;

static void *cache_much(void *argument)
{
    void *blocks[8];
    free(malloc(1));
    pthread_barrier_wait(&are_there);
    for (int i = 0; i < 8; i++)
        CHECK((blocks[i] = malloc(100000)) != NULL);
    for (int i = 0; i < 8; i++)
        free(blocks[i]);
    pthread_barrier_wait(&have_cached);
    pthread_barrier_wait(&have_looked);
    return argument;
}

/* Many threads cache no more than few of them. */
static void many_caches(void)
{
    pthread_t threads[MANY];
    pthread_barrier_init(&are_there, NULL, MANY);
    pthread_barrier_init(&have_cached, NULL, MANY + 1);
    pthread_barrier_init(&have_looked, NULL, MANY + 1);
    for (int i = 0; i < MANY; i++)
        CHECK(pthread_create(&threads[i], NULL, cache_much, NULL) == 0);
    pthread_barrier_wait(&have_cached);
    size_t cached = FRESH(size_t, "stats.arenas.4096.tcache_bytes");
    pthread_barrier_wait(&have_looked);
    for (int i = 0; i < MANY; i++)
        pthread_join(threads[i], NULL);
    CHECK(cached >= 1 << 20 && cached < 40 << 20);
}

static struct {
    const char *name;
    void (*run)(void);
} parts[] = {
    { "guards", guards },     { "kept", kept },   { "unmapped", unmapped },     { "data-segment", data_segment },
    { "flags", flags },       { "reset", reset }, { "background", background }, { "background-toggled", background_toggled },
    { "background-calm", background_calm }, { "background-short", background_short }, { "limited", limited },
    { "idle-cache", idle_cache },          { "many-caches", many_caches },
};

int main(int argc, char **argv)
{
    find_allocator();
    for (size_t i = 0; argc == 2 && i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(argv[1], parts[i].name)) {
            parts[i].run();
            return 0;
        }
    return 2;
}
