/* differential PART [OPTION...]: what mallctl answers to calls good and bad; see differential.h.
 *   names     every name of jemalloc's, read and written in every way that is right and wrong, by name and by number
 *   actions   names that are given particular values, and names that are none
 *   options   opt.* of the OPTIONs named, and names that are given in full */
#include <inttypes.h>
#include "control_names.h"
#include "differential.h"

/* Room for a value, with bytes behind and before that nobody may touch. */
struct buffer {
    unsigned char before[16], value[64], after[16];
};

static void clear(struct buffer *buffer)
{
    memset(buffer, 0xee, sizeof *buffer);
}

/* How many bytes of the buffer were written, as far as their values tell. */
static size_t touched(const struct buffer *buffer)
{
    size_t end = sizeof buffer->value;
    for (size_t i = 0; i < sizeof buffer->before; i++)
        CHECK(buffer->before[i] == 0xee && buffer->after[i] == 0xee);
    while (end > 0 && buffer->value[end - 1] == 0xee)
        end--;
    return end;
}

static size_t size_of(char type)
{
    switch (type) {
    case 'b': return sizeof(bool);
    case 'u': return sizeof(unsigned);
    case '2': return 2 * sizeof(uint64_t);
    default: return 8;
    }
}

static const char *shown(const struct name *name, const void *value)
{
    static char text[256];
    if (!name->constant)
        return "*";
    switch (name->type) {
    case 'b': return *(const unsigned char *)value ? "true" : "false";
    case 'u': return NAMED(text, "%u", *(const unsigned *)value);
    case 's': return NAMED(text, "%zd", *(const ssize_t *)value);
    case 'c': return *(const char *const *)value ? NAMED(text, "\"%s\"", *(const char *const *)value) : "NULL";
    default: return NAMED(text, "%" PRIu64, *(const uint64_t *)value);
    }
}

/* One way to call a name, and what came back. */
static void way(const struct name *name, const char *what, bool by_number, void *old, size_t *length, void *new, size_t newlen)
{
    struct buffer *buffer = old ? (struct buffer *)((unsigned char *)old - offsetof(struct buffer, value)) : NULL;
    size_t mib[8], depth = 7, asked = length ? *length : 0;
    int code;
    if (buffer)
        clear(buffer);
    if (!length && name->needs_length)
        return;
    bool has_number = mallctlnametomib(name->name, mib, &depth) == 0;
    const char *call = label("%s: %s%s", name->name, what, by_number ? " by number" : "");
    if (by_number && !has_number) {
        answer(call, "no number");
        return;
    }
    code = by_number ? mallctlbymib(mib, depth, old, length, new, newlen) : mallctl(name->name, old, length, new, newlen);
    if (!length)
        answer(call, "%d", code);
    else if (!buffer)
        answer(call, "%d length %zu", code, *length);
    else if (code == 0 && asked == size_of(name->type))
        answer(call, "%d length %zu value %s", code, *length, shown(name, buffer->value));
    else if (name->constant && name->type != 'c')
        answer(call, "%d length %zu touched %zu", code, *length, touched(buffer));
    else
        answer(call, "%d length %zu", code, *length);
}

static void every_way(const struct name *name)
{
    struct buffer buffer;
    unsigned char new[64] = {0};
    size_t size = size_of(name->type), length;
    length = size;
    if (mallctl(name->name, new, &length, NULL, 0) != 0)
        memset(new, 0, sizeof new);
    for (int by_number = 0; by_number < 2; by_number++) {
        way(name, "neither", by_number, NULL, NULL, NULL, 0);
        length = size;
        way(name, "read", by_number, buffer.value, &length, NULL, 0);
        length = size / 2;
        way(name, "read half", by_number, buffer.value, &length, NULL, 0);
        length = size + 8;
        way(name, "read more", by_number, buffer.value, &length, NULL, 0);
        length = 0;
        way(name, "read nothing", by_number, buffer.value, &length, NULL, 0);
        way(name, "read without length", by_number, buffer.value, NULL, NULL, 0);
        length = size;
        way(name, "length without buffer", by_number, NULL, &length, NULL, 0);
        way(name, "new length without value", by_number, NULL, NULL, NULL, size);
        if (name->written) {
            way(name, "write", by_number, NULL, NULL, new, size);
            length = size;
            way(name, "read and write", by_number, buffer.value, &length, new, size);
            length = size / 2;
            way(name, "read half and write", by_number, buffer.value, &length, new, size);
        }
        way(name, "write nothing", by_number, NULL, NULL, new, 0);
        way(name, "write more", by_number, NULL, NULL, new, size + 1);
        way(name, "write less", by_number, NULL, NULL, new, size - 1);
        length = size;
        way(name, "read and write more", by_number, buffer.value, &length, new, size + 1);
    }
}

static void names(void)
{
    for (const struct name *name = every_name; name->name; name++)
        every_way(name);
}

/* ---- Particular values ---- */

static void is_name(const char *name)
{
    size_t mib[8], depth = 7;
    answer(label("name \"%.60s\"", name), "%d", mallctl(name, NULL, NULL, NULL, 0));
    int code = mallctlnametomib(name, mib, &depth);
    answer(label("number of \"%.60s\"", name), "%d depth %zu", code, code ? 0 : depth);
}

static void write_size(const char *name, size_t value)
{
    size_t before = 0, length = sizeof before;
    int code = mallctl(name, &before, &length, &value, sizeof value);
    answer(label("%s := %zd", name, (ssize_t)value), "%d", code);
}

static void write_unsigned(const char *name, unsigned value)
{
    answer(label("%s := %u", name, value), "%d", mallctl(name, NULL, NULL, &value, sizeof value));
}

static void write_text(const char *name, const char *value)
{
    const char *before = NULL;
    size_t length = sizeof before;
    int code = mallctl(name, NULL, NULL, &value, sizeof value);
    answer(label("%s := \"%.60s\"", name, value ? value : "NULL"), "%d", code);
    if (mallctl(name, &before, &length, NULL, 0) == 0)
        answer(label("%s after \"%.60s\"", name, value ? value : "NULL"), "\"%s\"", before);
}

static void read_value(const char *name, char type)
{
    struct buffer buffer;
    struct name it = { name, type, true, false, false };
    size_t length = size_of(type);
    clear(&buffer);
    const char *call = label("%s", name);
    int code = mallctl(name, buffer.value, &length, NULL, 0);
    answer(call, "%d %s", code, code ? "" : shown(&it, buffer.value));
}

static void numbers(void)
{
    static const char *const some[] = { "version", "opt.narenas", "arena.0.purge", "arenas.bin.3.size",
                                        "stats.arenas.0.bins.3.nmalloc", "stats.arenas.0.mutexes.base.num_ops",
                                        "thread.tcache.enabled", "experimental.utilization.query" };
    for (unsigned i = 0; i < sizeof some / sizeof *some; i++)
        for (size_t room = 0; room <= 7; room++) {
            size_t mib[8] = {0}, depth = room;
            int code = mallctlnametomib(some[i], mib, &depth);
            answer(label("number of %s in %zu", some[i], room), "%d depth %zu", code, depth);
            size_t length = 8;
            char value[8];
            if (code == 0)
                answer(label("number of %s in %zu read", some[i], room), "%d",
                       mallctlbymib(mib, depth, i == 2 ? NULL : value, i == 2 ? NULL : &length, NULL, 0));
        }
    size_t mib[9], depth = 7;
    CHECK(mallctlnametomib("arenas.bin.0.size", mib, &depth) == 0);
    static const size_t indices[] = { 0, 1, 35, 36, 37, 4096, SIZE_MAX, SIZE_MAX / 2 };
    for (unsigned i = 0; i < sizeof indices / sizeof *indices; i++) {
        size_t value = 0, length = sizeof value;
        mib[2] = indices[i];
        int code = mallctlbymib(mib, depth, &value, &length, NULL, 0);
        answer(label("arenas.bin.%zu.size by number", indices[i]), "%d %zu", code, value);
    }
    mib[2] = 0;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 2; k++) {
            size_t saved = mib[i], value = 0, length = sizeof value;
            if (i == 2)
                continue;
            mib[i] = k ? SIZE_MAX : 1000;
            answer(label("arenas.bin.0.size with component %u %s", i, k ? "at its most" : "1000"), "%d",
                   mallctlbymib(mib, depth, &value, &length, NULL, 0));
            mib[i] = saved;
        }
    for (size_t given = 0; given <= 3; given++) {
        size_t value = 0, length = sizeof value;
        answer(label("arenas.bin.0.size with %zu components", given), "%d", mallctlbymib(mib, given, &value, &length, NULL, 0));
    }
}

static void no_names(void)
{
    static char long_name[5000];
    static const char *const some[] = {
        "", ".", "..", "opt", "opt.", ".opt", "opt.narenas.", "opt.narenas.x", "OPT.narenas", " opt.narenas", "opt.narenas ",
        "opt..narenas", "opt,narenas", "narenas", "arena", "arena.", "arena.0", "arena.0.", "arena.x.purge", "arena.-1.purge",
        "arena.+0.initialized", "arena.00.initialized", "arena.0x0.initialized", "arena.1000.initialized",
        "arena.4095.initialized", "arena.4096.initialized", "arena.4097.initialized", "arena.4098.initialized",
        "arena.18446744073709551616.initialized", "arena.4294967296.initialized", "stats", "stats.arenas", "stats.arenas.0",
        "stats.arenas.1000.pactive", "stats.arenas.4096.pactive", "stats.arenas.4097.pactive", "stats.arenas.0.bins",
        "stats.arenas.0.bins.36.nmalloc", "stats.arenas.0.lextents.196.nmalloc", "stats.arenas.0.extents.199.ndirty",
        "stats.arenas.0.extents.198.ndirty", "stats.arenas.0.bins.35.nmalloc", "stats.arenas.0.lextents.195.nmalloc",
        "arenas.bin.35.size", "arenas.bin.36.size", "arenas.lextent.195.size", "arenas.lextent.196.size",
        "arenas.bin.99999999999999999999.size", "arenas.bin..size", "arenas.bin.1", "thread", "thread.tcache", "prof.dumps",
        "stats.mutexes", "stats.mutexes.nonsense.num_ops", "stats.arenas.0.mutexes.nonsense.num_ops", "config.malloc_conf.x",
        "experimental", "opt.malloc_conf", "version\n", "v\xc3\xa9rsion", "opt.\xff\xfe",
    };
    for (unsigned i = 0; i < sizeof some / sizeof *some; i++)
        is_name(some[i]);
    for (unsigned i = 0; i + 2 < sizeof long_name; i += 2)
        memcpy(long_name + i, "a.", 2);
    is_name(long_name);
    memset(long_name, 'v', sizeof long_name - 1);
    is_name(long_name);
}

static void size_classes(void)
{
    char name[64];
    for (unsigned i = 0; i < 36; i++) {
        read_value(NAMED(name, "arenas.bin.%u.size", i), 'z');
        read_value(NAMED(name, "arenas.bin.%u.nregs", i), 'u');
        read_value(NAMED(name, "arenas.bin.%u.slab_size", i), 'z');
        read_value(NAMED(name, "arenas.bin.%u.nshards", i), 'u');
    }
    for (unsigned i = 0; i < 196; i++)
        read_value(NAMED(name, "arenas.lextent.%u.size", i), 'z');
}

static void decay_times(void)
{
    static const ssize_t times[] = { -2, -1, 0, 1, 10000, INT64_MAX / 1000000, INT64_MAX / 1000000 + 1, INT64_MAX, INT64_MIN };
    static const char *const which[] = { "arenas.dirty_decay_ms", "arenas.muzzy_decay_ms", "arena.0.dirty_decay_ms",
                                         "arena.0.muzzy_decay_ms", "arena.4096.dirty_decay_ms", "arena.1000.dirty_decay_ms" };
    for (unsigned i = 0; i < sizeof which / sizeof *which; i++)
        for (unsigned k = 0; k < sizeof times / sizeof *times; k++) {
            write_size(which[i], (size_t)times[k]);
            read_value(which[i], 's');
        }
}

static void limits(void)
{
    static const size_t sizes[] = { 0, 1, 4095, 4096, 2 << 20, (size_t)0x7000000000000000, SIZE_MAX };
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        write_size("arena.0.retain_grow_limit", sizes[i]);
    write_size("arena.1000.retain_grow_limit", 4096);
    for (unsigned i = 0; i < 5; i++)
        write_size("arena.0.oversize_threshold", sizes[i]);
    write_size("arena.0.oversize_threshold", 8 << 20);
    static const size_t counts[] = { 0, 1, 2, 4, 5, 100000, SIZE_MAX };
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        write_size("max_background_threads", counts[i]);
        read_value("max_background_threads", 'z');
    }
}

static void data_segment(void)
{
    static const char *const words[] = { "disabled", "primary", "secondary", "", "prim", "primaryx", "nonsense" };
    static const char *const which[] = { "arena.0.dss", "arena.4096.dss", "arena.4097.dss", "arena.1000.dss" };
    for (unsigned i = 0; i < sizeof which / sizeof *which; i++)
        for (unsigned k = 0; k < sizeof words / sizeof *words; k++)
            write_text(which[i], words[k]);
    write_text("arena.0.dss", "secondary");
    const char *before = NULL, *word = "primary";
    size_t length = sizeof before;
    int code = mallctl("arena.0.dss", &before, &length, &word, sizeof word);
    answer(label("arena.0.dss := primary, and what was"), "%d \"%s\"", code, before);
    write_text("arena.0.dss", "secondary");
}

static void threads_and_caches(void)
{
    write_unsigned("thread.arena", 0);
    read_value("thread.arena", 'u');
    write_unsigned("thread.arena", 100000);
    write_unsigned("thread.arena", UINT32_MAX);
    write_unsigned("thread.arena", 4096);
    read_value("thread.arena", 'u');
    for (int on = 0; on < 2; on++) {
        bool value = on, before = false;
        size_t length = 1;
        int code = mallctl("thread.tcache.enabled", &before, &length, &value, 1);
        answer(label("thread.tcache.enabled := %d", on), "%d before %d", code, before);
        answer(label("thread.tcache.flush with enabled %d", on), "%d", mallctl("thread.tcache.flush", NULL, NULL, NULL, 0));
    }
    unsigned cache = 0, second = 0;
    size_t length = sizeof cache;
    int code = mallctl("tcache.create", &cache, &length, NULL, 0);
    answer(label("tcache.create"), "%d", code);
    length = sizeof second;
    CHECK(mallctl("tcache.create", &second, &length, NULL, 0) == 0 && second != cache);
    answer(label("tcache.create: the second is the next"), "%d", (int)second - (int)cache);
    length = 8;
    code = mallctl("tcache.create", &second, &length, NULL, 0);
    answer(label("tcache.create into 8 bytes"), "%d length %zu", code, length);
    void *block = mallocx(100, MALLOCX_TCACHE(cache));
    answer(label("a block of a cache"), "%zu", sallocx(block, 0));
    /* Not if it is sampled, or the cache is tidied up in between, which jemalloc does when it likes: one of eight will do. */
    int is_back = 0;
    for (int i = 0; i < 8; i++) {
        void *before = block;
        dallocx(block, MALLOCX_TCACHE(cache));
        block = mallocx(100, MALLOCX_TCACHE(cache));
        is_back |= block == before;
    }
    answer(label("a cache gives the block back"), "%d", is_back);
    dallocx(block, MALLOCX_TCACHE(cache));
    write_unsigned("tcache.flush", cache);
    write_unsigned("tcache.destroy", cache);
    write_unsigned("tcache.flush", cache);
    length = sizeof second;
    CHECK(mallctl("tcache.create", &second, &length, NULL, 0) == 0);
    answer(label("a cache that is gone is made again"), "%d", second == cache);
    unsigned several[4];
    for (int i = 0; i < 4; i++) {
        length = sizeof several[i];
        CHECK(mallctl("tcache.create", &several[i], &length, NULL, 0) == 0);
    }
    for (int i = 0; i < 3; i++)
        CHECK(mallctl("tcache.destroy", NULL, NULL, &several[i], sizeof several[i]) == 0);
    length = sizeof second;
    CHECK(mallctl("tcache.create", &second, &length, NULL, 0) == 0);
    answer(label("which of three caches that are gone is made again"), "%d", (int)(second - several[0]));
    uint64_t *allocated = NULL, *deallocated = NULL, count = 0;
    length = sizeof allocated;
    CHECK(mallctl("thread.allocatedp", &allocated, &length, NULL, 0) == 0);
    CHECK(mallctl("thread.deallocatedp", &deallocated, &length, NULL, 0) == 0);
    uint64_t before = *allocated, freed_before = *deallocated;
    free(malloc(100));
    void *other = mallocx(5000, 0);
    other = rallocx(other, 9000, 0);
    dallocx(other, 0);
    free(calloc(3, 100000));
    answer(label("bytes that a thread's counter grew by"), "%" PRIu64 " %" PRIu64, *allocated - before,
           *deallocated - freed_before);
    before = *allocated, freed_before = *deallocated;
    dallocx(rallocx(mallocx(100, 0), 105, 0), 0);
    answer(label("bytes counted where a size stays within its class"), "%" PRIu64 " %" PRIu64, *allocated - before,
           *deallocated - freed_before);
    size_t zeros = 0, zeros_before = 0;
    length = sizeof zeros;
    CHECK(mallctl("stats.zero_reallocs", &zeros_before, &length, NULL, 0) == 0);
    other = realloc(mallocx(100, 0), 0);
    CHECK(mallctl("stats.zero_reallocs", &zeros, &length, NULL, 0) == 0);
    answer(label("stats.zero_reallocs grew by"), "%zu", zeros - zeros_before);
    length = sizeof count;
    CHECK(mallctl("thread.allocated", &count, &length, NULL, 0) == 0);
    answer(label("a thread's counter by value and by address"), "%d", count == *allocated);
    answer(label("thread.peak.reset"), "%d", mallctl("thread.peak.reset", NULL, NULL, NULL, 0));
    free(malloc(3 << 20));
    free(malloc(1 << 20));
    length = sizeof count;
    code = mallctl("thread.peak.read", &count, &length, NULL, 0);
    answer(label("thread.peak.read after 3 MiB"), "%d %" PRIu64, code, count >> 20);
}

static void arenas(void)
{
    static const char *const actions[] = { "decay", "purge", "reset", "destroy" };
    static const char *const which[] = { "0", "4096", "4097", "1000" };
    char name[64];
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 4; k++) {
            NAMED(name, "arena.%s.%s", which[i], actions[k]);
            answer(label("%s", name), "%d", mallctl(name, NULL, NULL, NULL, 0));
        }
    unsigned index = 0, found = 0;
    size_t length = sizeof index;
    int code = mallctl("arenas.create", &index, &length, NULL, 0);
    answer(label("arenas.create"), "%d", code);
    unsigned narenas = 0;
    length = sizeof narenas;
    CHECK(mallctl("arenas.narenas", &narenas, &length, NULL, 0) == 0);
    answer(label("arenas.create gives the last index"), "%d", narenas == index + 1);
    bool there = false;
    length = 1;
    code = mallctl(NAMED(name, "arena.%u.initialized", index), &there, &length, NULL, 0);
    answer(label("arena.<new>.initialized"), "%d %d", code, there);
    /* Where the name is to go, the address of room for it is. */
    char room[64] = "", *into = room;
    const char *given = "a name that is longer than thirty-two bytes";
    length = sizeof into;
    code = mallctl(NAMED(name, "arena.%u.name", index), &into, &length, NULL, 0);
    bool is_own = strncmp(room, "manual_", 7) == 0;
    answer(label("arena.<new>.name"), "%d %d", code, is_own);
    answer(label("arena.<new>.name := too long a name"), "%d", mallctl(name, NULL, NULL, &given, sizeof given));
    code = mallctl(name, &into, &length, NULL, 0);
    answer(label("arena.<new>.name after too long a name"), "%d \"%s\"", code, room);
    void *block = mallocx(100, MALLOCX_ARENA(index) | MALLOCX_TCACHE_NONE);
    void *large = mallocx(100000, MALLOCX_ARENA(index) | MALLOCX_TCACHE_NONE);
    void *pointers[] = { block, large };
    for (int i = 0; i < 2; i++) {
        length = sizeof found;
        code = mallctl("arenas.lookup", &found, &length, &pointers[i], sizeof pointers[i]);
        answer(label("arenas.lookup of a block %d", i), "%d %d", code, code ? 0 : found == index);
    }
    answer(label("thread.arena := new"), "%d", mallctl("thread.arena", NULL, NULL, &index, sizeof index));
    code = mallctl(NAMED(name, "arena.%u.destroy", index), NULL, NULL, NULL, 0);
    answer(label("arena.<new>.destroy while a thread has it"), "%d", code);
    unsigned zero = 0;
    CHECK(mallctl("thread.arena", NULL, NULL, &zero, sizeof zero) == 0);
    answer(label("arena.<new>.reset"), "%d", mallctl(NAMED(name, "arena.%u.reset", index), NULL, NULL, NULL, 0));
    uint64_t epoch = 1, freed = 0;
    CHECK(mallctl("epoch", NULL, NULL, &epoch, sizeof epoch) == 0);
    length = sizeof freed;
    code = mallctl(NAMED(name, "stats.arenas.%u.small.ndalloc", index), &freed, &length, NULL, 0);
    answer(label("stats.arenas.<new>.small.ndalloc after reset"), "%d %" PRIu64, code, freed);
    length = 1;
    code = mallctl(NAMED(name, "arena.%u.initialized", index), &there, &length, NULL, 0);
    answer(label("arena.<new>.initialized after reset"), "%d %d", code, there);
    answer(label("arena.<new>.destroy"), "%d", mallctl(NAMED(name, "arena.%u.destroy", index), NULL, NULL, NULL, 0));
    length = 1;
    code = mallctl(NAMED(name, "arena.%u.initialized", index), &there, &length, NULL, 0);
    answer(label("arena.<new>.initialized after destroy"), "%d %d", code, there);
    static const char *const dead[] = { "decay", "purge", "reset", "destroy", "dirty_decay_ms", "extent_hooks", "dss" };
    for (unsigned i = 0; i < 4; i++) {
        NAMED(name, "arena.%u.%s", index, dead[i]);
        answer(label("arena.<gone>.%s", dead[i]), "%d", mallctl(name, NULL, NULL, NULL, 0));
    }
    for (unsigned i = 4; i < 7; i++) {
        char value[8];
        length = 8;
        NAMED(name, "arena.%u.%s", index, dead[i]);
        answer(label("arena.<gone>.%s read", dead[i]), "%d", mallctl(name, value, &length, NULL, 0));
    }
    answer(label("thread.arena := gone"), "%d", mallctl("thread.arena", NULL, NULL, &index, sizeof index));
    CHECK(mallctl("thread.arena", NULL, NULL, &zero, sizeof zero) == 0);
    unsigned again = 0;
    length = sizeof again;
    code = mallctl("arenas.create", &again, &length, NULL, 0);
    answer(label("arenas.create takes the index of the one that is gone"), "%d %d", code, again == index);
    length = 2;
    code = mallctl("arenas.create", &again, &length, NULL, 0);
    answer(label("arenas.create into 2 bytes"), "%d length %zu", code, length);
    void *hooks = NULL;
    length = sizeof again;
    code = mallctl("arenas.create", &again, &length, &hooks, 4);
    answer(label("arenas.create with half an address of hooks"), "%d", code);
}

static void profile(void)
{
    write_text("prof.prefix", "part");
    write_text("prof.dump", "dumped");
    write_text("prof.dump", "no such directory/dumped");
    write_text("prof.dump", "/dev/null");
    write_text("thread.prof.name", "ascii name");
    write_text("thread.prof.name", "a name that is too long for it");
    write_text("thread.prof.name", "tab\there");
    write_text("thread.prof.name", "line\nend");
    write_text("thread.prof.name", "caf\xc3\xa9");
    write_text("thread.prof.name", NULL);
    write_text("thread.prof.name", "");
    static const char *const flags[] = { "prof.active", "prof.gdump", "prof.thread_active_init", "thread.prof.active" };
    for (unsigned i = 0; i < 4; i++)
        for (int on = 0; on < 2; on++) {
            bool value = on;
            answer(label("%s := %d", flags[i], on), "%d", mallctl(flags[i], NULL, NULL, &value, 1));
            read_value(flags[i], 'b');
        }
    static const size_t lgs[] = { 0, 10, 19, 63, 64, SIZE_MAX };
    for (unsigned i = 0; i < 6; i++) {
        answer(label("prof.reset := %zd", (ssize_t)lgs[i]), "%d", mallctl("prof.reset", NULL, NULL, (void *)&lgs[i], 8));
        read_value("prof.lg_sample", 'z');
    }
    size_t back = 19;
    mallctl("prof.reset", NULL, NULL, &back, sizeof back);
    write_text("prof.log_start", "log");
    write_text("prof.log_start", "log again");
    answer(label("prof.log_stop"), "%d", mallctl("prof.log_stop", NULL, NULL, NULL, 0));
    answer(label("prof.log_stop again"), "%d", mallctl("prof.log_stop", NULL, NULL, NULL, 0));
    write_size("experimental.prof_recent.alloc_max", 3);
    read_value("experimental.prof_recent.alloc_max", 's');
    write_size("experimental.prof_recent.alloc_max", (size_t)-1);
    write_size("experimental.prof_recent.alloc_max", (size_t)-2);
    write_size("experimental.prof_recent.alloc_max", 0);
}

static void *no_memory(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero, bool *commit,
                       unsigned arena)
{
    (void)hooks, (void)new_addr, (void)size, (void)alignment, (void)zero, (void)commit, (void)arena;
    return NULL;
}

static void experiments(void)
{
    unsigned index = 0;
    void *block = malloc(100), *large = malloc(100000);
    size_t answers[6], length = sizeof answers;
    int code = mallctl("experimental.utilization.query", answers, &length, &block, sizeof block);
    answer(label("utilization of a small block"), "%d length %zu extent %zu regions %zu", code, length, answers[3], answers[2]);
    code = mallctl("experimental.utilization.query", answers, &length, &large, sizeof large);
    answer(label("utilization of a large block"), "%d length %zu extent %zu free %zu regions %zu bin %zu of %zu", code, length,
           answers[3], answers[1], answers[2], answers[4], answers[5]);
    length = 40;
    code = mallctl("experimental.utilization.query", answers, &length, &block, sizeof block);
    answer(label("utilization into 40 bytes"), "%d length %zu", code, length);
    length = sizeof answers;
    answer(label("utilization of nothing"), "%d", mallctl("experimental.utilization.query", answers, &length, NULL, 0));
    answer(label("utilization of half an address"), "%d",
           mallctl("experimental.utilization.query", answers, &length, &block, 4));
    void *both[2] = { block, large };
    size_t rows[6];
    length = sizeof rows;
    code = mallctl("experimental.utilization.batch_query", rows, &length, both, sizeof both);
    answer(label("utilization of two"), "%d regions %zu extents %zu and %zu free %zu of %zu", code, rows[1], rows[2], rows[5],
           rows[3], rows[4]);
    length = sizeof rows - 8;
    answer(label("utilization of two into less"), "%d",
           mallctl("experimental.utilization.batch_query", rows, &length, both, sizeof both));
    length = sizeof rows;
    answer(label("utilization of none"), "%d", mallctl("experimental.utilization.batch_query", rows, &length, both, 0));
    answer(label("utilization of one and a half"), "%d",
           mallctl("experimental.utilization.batch_query", rows, &length, both, 12));
    void *batch[64] = {0};
    struct { void **pointers; size_t count, size; int flags; } packet = { batch, 64, 100, 0 };
    size_t filled = 0;
    length = sizeof filled;
    code = mallctl("experimental.batch_alloc", &filled, &length, &packet, sizeof packet);
    answer(label("batch_alloc"), "%d %zu", code, filled);
    for (size_t i = 0; i < filled; i++) {
        CHECK(sallocx(batch[i], 0) == 112);
        free(batch[i]);
    }
    packet.count = 0;
    filled = 9;
    code = mallctl("experimental.batch_alloc", &filled, &length, &packet, sizeof packet);
    answer(label("batch_alloc of none"), "%d %zu", code, filled);
    length = 4;
    code = mallctl("experimental.batch_alloc", &filled, &length, &packet, sizeof packet);
    answer(label("batch_alloc into 4 bytes"), "%d length %zu", code, length);
    length = sizeof filled;
    code = mallctl("experimental.batch_alloc", &filled, &length, &packet, 8);
    answer(label("batch_alloc with half a packet"), "%d", code);
    packet.count = 1;
    packet.size = SIZE_MAX;
    code = mallctl("experimental.batch_alloc", &filled, &length, &packet, sizeof packet);
    answer(label("batch_alloc of too much"), "%d %zu", code, filled);
    static extent_hooks_t none = { .alloc = no_memory };
    struct { extent_hooks_t *hooks; bool metadata; } config = { &none, false };
    for (int metadata = 0; metadata < 2; metadata++) {
        config.metadata = metadata;
        length = sizeof index;
        code = mallctl("experimental.arenas_create_ext", &index, &length, &config, sizeof config);
        answer(label("arenas_create_ext without memory, metadata %s", metadata ? "from hooks" : "not"), "%d", code);
    }
    length = 8;
    size_t *pages = NULL;
    code = mallctl("experimental.arenas.0.pactivep", &pages, &length, NULL, 0);
    answer(label("experimental.arenas.0.pactivep"), "%d %d", code, code ? 0 : *pages > 0);
    free(block);
    free(large);
}

static void actions(void)
{
    no_names();
    numbers();
    size_classes();
    decay_times();
    limits();
    data_segment();
    threads_and_caches();
    arenas();
    profile();
    experiments();
}

static void options(int count, char **which)
{
    /* Something is left when the process ends. */
    void *volatile kept = malloc(100);
    CHECK(kept);
    for (int i = 0; i < count; i++) {
        char name[128];
        NAMED(name, "%s%s", strchr(which[i], '.') ? "" : "opt.", which[i]);
        for (const struct name *known = every_name; known->name; known++)
            if (!strcmp(known->name, name))
                read_value(name, known->type);
    }
}

int main(int argc, char **argv)
{
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    find_allocator();
    if (argc < 2)
        return 2;
    if (!strcmp(argv[1], "names"))
        names();
    else if (!strcmp(argv[1], "actions"))
        actions();
    else if (!strcmp(argv[1], "options"))
        options(argc - 2, argv + 2);
    else
        return 2;
    fflush(stdout);
    return 0;
}
