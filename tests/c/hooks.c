/* hooks MODE ROUNDS: an arena whose memory comes from this program's extent hooks, which keep books of each page and refuse
 * what breaks a rule of the contract. Blocks of many sizes come and go in it; then it is purged, and destroyed. MODE is
 * made of words joined by commas, each one an ill that the hooks have; see `modes`. Exits 0 if all rules were kept. */
#include <pthread.h>
#include "allocator.h"

/* Address space that was given back is not given again: the long form of the test comes to some 30 GiB of it. */
enum { PAGE = 4096, PAGES = 1 << 24, BLOCKS = 600 };

/* What the arena knows of a page. */
enum { FREE, GIVEN };
static unsigned char page_state[PAGES], page_committed[PAGES];
static char *space;
static size_t next_page;
static unsigned the_arena;
static int rounds;
static size_t calls_alloc, calls_dalloc, calls_destroy, calls_commit, calls_decommit, calls_lazy, calls_forced, calls_split,
    calls_merge;

static struct {
    const char *word;
    bool on;
} modes[] = {
    { "pinned", false },        /* alloc says that the pages can't be given back one by one */
    { "uncommitted", false },   /* alloc gives address space without memory */
    { "zeroed", false },        /* alloc says that the pages read as zero, and they do */
    { "alloc-fails", false },   /* every third call of alloc fails */
    { "alloc-stops", false },   /* alloc fails for good after a while */
    { "commit-fails", false },  /* every third call */
    { "dalloc-refuses", false }, { "decommit-refuses", false }, { "forced-refuses", false }, { "lazy-refuses", false },
    { "split-refuses", false }, { "merge-refuses", false }, { "split-moody", false }, { "merge-moody", false },
    { "no-dalloc", false }, { "no-destroy", false }, { "no-commit", false }, { "no-decommit", false },
    { "no-lazy", false }, { "no-forced", false }, { "no-split", false }, { "no-merge", false },
    { "allocates", false },     /* each hook calls malloc and free */
    { "lazily", false },        /* the arena has a second stage of decay */
    { "at-once", false },       /* the arena gives pages back when they are freed */
    { "threads", false },       /* several threads at once */
    { "bound", false },         /* the thread is bound to the arena, its blocks come through its cache */
    { "default-only", false },  /* no hooks; the books are left out */
};

static bool is(const char *word)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(modes[i].word, word))
            return modes[i].on;
    dprintf(2, "no mode %s\n", word);
    _exit(2);
}

/* The books are one hook's at a time. */
static pthread_mutex_t books = PTHREAD_MUTEX_INITIALIZER;

static void close_books(char *unused)
{
    (void)unused;
    pthread_mutex_unlock(&books);
}

#define ENTER(arena) \
    __attribute__((cleanup(close_books))) UNUSED char opened; \
    enter(arena)

static void enter(unsigned arena)
{
    pthread_mutex_lock(&books);
    CHECK_EQUAL(arena, the_arena);
    if (is("allocates")) {
        char *block = malloc(100), *large = calloc(1, 50000);
        CHECK(block && large && !large[49999]);
        memset(block, 1, 100);
        free(block);
        free(realloc(large, 100000));
    }
    errno = EDOM;
}

static size_t page_of(void *address, size_t bytes)
{
    size_t offset = (size_t)((char *)address - space);
    CHECK(offset % PAGE == 0 && bytes % PAGE == 0 && bytes > 0);
    CHECK(offset / PAGE + bytes / PAGE <= next_page);
    return offset / PAGE;
}

static void all_are(void *address, size_t bytes, unsigned char state)
{
    size_t first = page_of(address, bytes);
    for (size_t i = 0; i < bytes / PAGE; i++)
        CHECK_EQUAL(page_state[first + i], state);
}

static void commitment_is(void *address, size_t bytes, bool committed)
{
    size_t first = page_of(address, bytes);
    for (size_t i = 0; i < bytes / PAGE; i++)
        CHECK_EQUAL(page_committed[first + i], committed);
}

static void set_committed(void *address, size_t bytes, bool committed)
{
    memset(page_committed + page_of(address, bytes), committed, bytes / PAGE);
    CHECK(mprotect(address, bytes, committed ? PROT_READ | PROT_WRITE : PROT_NONE) == 0);
}

static void *alloc_hook(extent_hooks_t *hooks, void *wanted, size_t bytes, size_t align, bool *zero, bool *commit, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    CHECK(!wanted && bytes % PAGE == 0 && align % PAGE == 0 && (align & (align - 1)) == 0);
    CHECK(!*zero && *commit);
    calls_alloc++;
    if ((is("alloc-fails") && calls_alloc % 3 == 0) || (is("alloc-stops") && calls_alloc > 12))
        return NULL;
    size_t align_pages = align / PAGE;
    /* A page between two regions, at times, so that not all are neighbours. */
    size_t start = (next_page + (calls_alloc & 1) + align_pages - 1) & ~(align_pages - 1);
    if (start + bytes / PAGE > PAGES)
        return NULL;
    next_page = start + bytes / PAGE;
    char *address = space + start * PAGE;
    memset(page_state + start, GIVEN, bytes / PAGE);
    set_committed(address, bytes, true);
    if (is("zeroed"))
        *zero = true;
    else
        memset(address, 0xee, bytes < 65536 ? bytes : 65536);
    if (is("uncommitted")) {
        set_committed(address, bytes, false);
        *commit = false;
    }
    return is("pinned") ? (void *)((uintptr_t)address | 1) : address;
}

static bool dalloc_hook(extent_hooks_t *hooks, void *address, size_t bytes, bool committed, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_dalloc++;
    CHECK(!is("pinned"));
    all_are(address, bytes, GIVEN);
    commitment_is(address, bytes, committed);
    if (is("dalloc-refuses"))
        return true;
    memset(page_state + page_of(address, bytes), FREE, bytes / PAGE);
    set_committed(address, bytes, false);
    madvise(address, bytes, MADV_DONTNEED);
    return false;
}

static void destroy_hook(extent_hooks_t *hooks, void *address, size_t bytes, bool committed, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_destroy++;
    all_are(address, bytes, GIVEN);
    commitment_is(address, bytes, committed);
    memset(page_state + page_of(address, bytes), FREE, bytes / PAGE);
}

static void check_part(void *address, size_t bytes, size_t offset, size_t length)
{
    all_are(address, bytes, GIVEN);
    CHECK(offset % PAGE == 0 && length % PAGE == 0 && length > 0 && offset + length <= bytes);
}

static bool commit_hook(extent_hooks_t *hooks, void *address, size_t bytes, size_t offset, size_t length, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    check_part(address, bytes, offset, length);
    commitment_is((char *)address + offset, length, false);
    if (is("commit-fails") && ++calls_commit % 3 == 0)
        return true;
    set_committed((char *)address + offset, length, true);
    memset((char *)address + offset, 0, length);
    return false;
}

static bool decommit_hook(extent_hooks_t *hooks, void *address, size_t bytes, size_t offset, size_t length, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_decommit++;
    CHECK(!is("pinned"));
    check_part(address, bytes, offset, length);
    commitment_is((char *)address + offset, length, true);
    if (is("decommit-refuses"))
        return true;
    set_committed((char *)address + offset, length, false);
    return false;
}

static bool purge(void *address, size_t bytes, size_t offset, size_t length, bool forced)
{
    CHECK(!is("pinned"));
    check_part(address, bytes, offset, length);
    commitment_is((char *)address + offset, length, true);
    /* Contents are gone: zeros if it was forced, anything otherwise. */
    memset((char *)address + offset, forced ? 0 : 0xdd, length);
    return false;
}

static bool lazy_hook(extent_hooks_t *hooks, void *address, size_t bytes, size_t offset, size_t length, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_lazy++;
    return is("lazy-refuses") || purge(address, bytes, offset, length, false);
}

static bool forced_hook(extent_hooks_t *hooks, void *address, size_t bytes, size_t offset, size_t length, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_forced++;
    return is("forced-refuses") || purge(address, bytes, offset, length, true);
}

static bool split_hook(extent_hooks_t *hooks, void *address, size_t bytes, size_t first, size_t second, bool committed, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_split++;
    CHECK(first + second == bytes && first > 0 && second > 0 && first % PAGE == 0);
    all_are(address, bytes, GIVEN);
    commitment_is(address, bytes, committed);
    return is("split-refuses") || (is("split-moody") && calls_split % 3 == 0);
}

static bool merge_hook(extent_hooks_t *hooks, void *low, size_t low_bytes, void *high, size_t high_bytes, bool committed, unsigned arena)
{
    (void)hooks;
    ENTER(arena);
    calls_merge++;
    CHECK((char *)low + low_bytes == high);
    all_are(low, low_bytes, GIVEN);
    all_are(high, high_bytes, GIVEN);
    commitment_is(low, low_bytes + high_bytes, committed);
    return is("merge-refuses") || (is("merge-moody") && calls_merge % 3 == 0);
}

static size_t given_pages(void)
{
    size_t count = 0;
    for (size_t i = 0; i < PAGES; i++)
        count += page_state[i] == GIVEN;
    return count;
}

struct worker {
    pthread_t thread;
    uint64_t state;
    int flags;
    size_t served, refused;
    struct {
        unsigned char *block;
        size_t bytes;
        unsigned number;
    } held[BLOCKS];
};

static size_t draw_size(uint64_t *state)
{
    switch (draw(state) % 16) {
    case 0:
        return 1 + draw(state) % 2000000;
    case 1:
    case 2:
        return 1 + draw(state) % 100000;
    case 3:
    case 4:
    case 5:
        return 1 + draw(state) % 20000;
    default:
        return 1 + draw(state) % 1000;
    }
}

static void one_step(struct worker *w)
{
    uint64_t *state = &w->state;
    int flags = w->flags;
    unsigned slot = draw(state) % BLOCKS, number = draw(state);
    size_t bytes = draw_size(state);
    unsigned char *block = w->held[slot].block;
    if (block) {
        CHECK(is_filled(block, w->held[slot].bytes, w->held[slot].number));
        if (draw(state) % 4) {
            if (draw(state) % 2)
                dallocx(block, flags & 0xfff00);
            else
                sdallocx(block, w->held[slot].bytes, flags & 0xfff00);
            w->held[slot].block = NULL;
            return;
        }
        size_t kept = w->held[slot].bytes < bytes ? w->held[slot].bytes : bytes;
        block = rallocx(block, bytes, flags);
        CHECK(!block || is_filled(block, kept, w->held[slot].number));
    } else {
        int zero = draw(state) % 4 == 0 ? MALLOCX_ZERO : 0;
        int lg_align = draw(state) % 8 == 0 ? (int)(draw(state) % 18) : 0;
        block = mallocx(bytes, flags | zero | lg_align);
        CHECK(((uintptr_t)block & (((uintptr_t)1 << lg_align) - 1)) == 0);
        for (size_t i = 0; block && zero && i < bytes; i++)
            CHECK_EQUAL(block[i], 0);
    }
    if (!block) {
        w->refused++;
        return;
    }
    w->served++;
    w->held[slot].block = block;
    w->held[slot].bytes = bytes;
    w->held[slot].number = number;
    fill_block(block, bytes, number);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    unsigned home = READ(unsigned, "thread.arena");
    if (is("bound"))
        CHECK(WRITE(unsigned, the_arena, "thread.arena") == 0);
    errno = EXDEV;
    for (int round = 0; round < rounds; round++) {
        one_step(w);
        if (round % 1000 == 999) {
            CHECK(DO("arena.%u.%s", the_arena, round % 2000 == 1999 ? "purge" : "decay") == 0);
            if (is("lazily"))
                usleep(15000);
        }
    }
    CHECK_EQUAL(errno, EXDEV);
    if (is("bound")) {
        CHECK(DO("thread.tcache.flush") == 0);
        CHECK(WRITE(unsigned, home, "thread.arena") == 0);
    }
    return NULL;
}

static struct worker workers[4];

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    rounds = atoi(argv[2]);
    for (char *word = strtok(argv[1], ","); word; word = strtok(NULL, ",")) {
        is(word);
        for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
            modes[i].on |= !strcmp(modes[i].word, word);
    }
    find_allocator();
    space = mmap(NULL, (size_t)PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(space != MAP_FAILED);
    extent_hooks_t table = {
        alloc_hook,
        is("no-dalloc") ? NULL : dalloc_hook,
        is("no-destroy") ? NULL : destroy_hook,
        is("no-commit") ? NULL : commit_hook,
        is("no-decommit") ? NULL : decommit_hook,
        is("no-lazy") ? NULL : lazy_hook,
        is("no-forced") ? NULL : forced_hook,
        is("no-split") ? NULL : split_hook,
        is("no-merge") ? NULL : merge_hook,
    };
    the_arena = create_arena(is("default-only") ? NULL : &table);
    if (!is("default-only"))
        CHECK(READ(extent_hooks_t *, "arena.%u.extent_hooks", the_arena) == &table);
    if (is("at-once"))
        CHECK(WRITE(ssize_t, 0, "arena.%u.dirty_decay_ms", the_arena) == 0);
    if (is("lazily")) {
        CHECK(WRITE(ssize_t, 20, "arena.%u.dirty_decay_ms", the_arena) == 0);
        CHECK(WRITE(ssize_t, 40, "arena.%u.muzzy_decay_ms", the_arena) == 0);
    }
    int flags = is("bound") ? 0 : MALLOCX_ARENA(the_arena) | MALLOCX_TCACHE_NONE;
    int count = is("threads") ? 4 : 1;
    size_t served = 0, refused = 0;
    for (int i = 0; i < count; i++) {
        workers[i].state = 42 + (uint64_t)i;
        workers[i].flags = flags;
        if (is("threads"))
            CHECK(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
        else
            work(&workers[i]);
    }
    for (int i = 0; i < count; i++) {
        if (is("threads"))
            CHECK(pthread_join(workers[i].thread, NULL) == 0);
        served += workers[i].served;
        refused += workers[i].refused;
    }
    size_t active = FRESH(size_t, "stats.arenas.%u.pactive", the_arena);
    size_t mapped = READ(size_t, "stats.arenas.%u.mapped", the_arena) + READ(size_t, "stats.arenas.%u.retained", the_arena)
        - READ(size_t, "stats.arenas.%u.base", the_arena);
    size_t pinned = READ(size_t, "stats.arenas.%u.pinned", the_arena);
    CHECK(active * PAGE <= mapped);
    CHECK(is("pinned") == (pinned > 0));
    if (is("pinned")) {
        CHECK_EQUAL(READ(size_t, "stats.arenas.%u.pdirty", the_arena), 0);
        CHECK_EQUAL(READ(size_t, "stats.arenas.%u.retained", the_arena), 0);
        CHECK(READ(size_t, "stats.pinned") >= pinned);
    }
    if (!is("default-only"))
        CHECK_EQUAL(given_pages() * PAGE, mapped);
    if (is("alloc-stops"))
        CHECK(refused > 0 && served > 1000);
    else if (is("uncommitted") && is("no-commit"))
        CHECK(served == 0 && refused > 0);
    else if (is("alloc-fails") || is("commit-fails"))
        CHECK(served > 10 * refused);
    else
        CHECK_EQUAL(refused, 0);
    for (int i = 0; i < count * BLOCKS; i += 2) {
        struct worker *w = &workers[i / BLOCKS];
        unsigned char *block = w->held[i % BLOCKS].block;
        if (block) {
            CHECK(is_filled(block, w->held[i % BLOCKS].bytes, w->held[i % BLOCKS].number));
            dallocx(block, MALLOCX_TCACHE_NONE);
        }
    }
    CHECK(DO("arena.%u.purge", the_arena) == 0);
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.pdirty", the_arena), 0);
    CHECK_EQUAL(READ(size_t, "stats.arenas.%u.pmuzzy", the_arena), 0);
    /* The other half goes with the arena. */
    CHECK(DO("arena.%u.reset", the_arena) == 0);
    CHECK_EQUAL(FRESH(size_t, "stats.arenas.%u.pactive", the_arena), 0);
    CHECK_EQUAL(READ(size_t, "stats.arenas.%u.small.allocated", the_arena), 0);
    CHECK_EQUAL(READ(size_t, "stats.arenas.%u.large.allocated", the_arena), 0);
    CHECK(DO("arena.%u.destroy", the_arena) == 0);
    CHECK(!READ(bool, "arena.%u.initialized", the_arena));
    if (!is("default-only") && !is("no-destroy"))
        CHECK_EQUAL(given_pages(), 0);
    printf("served %zu refused %zu; alloc %zu dalloc %zu destroy %zu decommit %zu lazy %zu forced %zu split %zu merge %zu\n",
           served, refused, calls_alloc, calls_dalloc, calls_destroy, calls_decommit, calls_lazy, calls_forced, calls_split,
           calls_merge);
    return 0;
}
