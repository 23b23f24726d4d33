/* sites: four call sites of known sizes, all live at the end. Writes the truth, and where each site's code begins, to
 * standard output as JSON.
 *
 * Built without frame pointers, as distributions build: its stacks must come from the unwind tables. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct site {
    const char *name;
    void (*code)(void);
    unsigned long count;
    unsigned long long requested, usable;
    struct { unsigned long long size; unsigned long count; } sizes[8];
};

static void site_16(void), site_4k(void), site_300k(void), site_mix(unsigned);

static struct site small = {.name = "site_16", .code = site_16}, page = {.name = "site_4k", .code = site_4k},
                   large = {.name = "site_300k", .code = site_300k},
                   mixed = {.name = "site_mix", .code = (void (*)(void))site_mix};
static void *volatile last;

static void book(struct site *site, char *block, size_t size)
{
    if (!block)
        abort();
    block[0] = block[size - 1] = 1;
    last = block;
    site->count++;
    site->requested += size;
    unsigned long long usable = malloc_usable_size(block);
    site->usable += usable;
    for (int i = 0; i < 8; i++)
        if (site->sizes[i].size == usable || !site->sizes[i].count) {
            site->sizes[i].size = usable;
            site->sizes[i].count++;
            return;
        }
    abort();
}

__attribute__((noinline)) static void site_16(void)
{
    char *block = malloc(16);
    book(&small, block, 16);
}

__attribute__((noinline)) static void site_4k(void)
{
    char *block = malloc(4096);
    book(&page, block, 4096);
}

__attribute__((noinline)) static void site_300k(void)
{
    char *block = malloc(300 << 10);
    book(&large, block, 300 << 10);
}

__attribute__((noinline)) static void site_mix(unsigned turn)
{
    static const size_t sizes[] = {64, 1000, 64 << 10, 8 << 20};
    /* One of 8 MiB for 8 of 64 KiB and some 30000 small ones. */
    size_t size = turn % 32768 == 0 ? sizes[3] : turn % 4096 == 1 ? sizes[2] : sizes[turn & 1];
    char *block = malloc(size);
    book(&mixed, block, size);
}

static void print(const struct site *site, const char *end)
{
    printf("{\"name\": \"%s\", \"code\": %lu, \"live_count\": %lu, \"live_bytes_requested\": %llu, \"live_bytes_usable\": %llu, "
           "\"allocated_count\": %lu, \"allocated_bytes_usable\": %llu, \"live_sizes\": [",
           site->name, (unsigned long)site->code, site->count, site->requested, site->usable, site->count, site->usable);
    for (int i = 0; i < 8 && site->sizes[i].count; i++)
        printf("%s[%llu, %lu]", i ? ", " : "", site->sizes[i].size, site->sizes[i].count);
    printf("]}%s\n", end);
}

int main(void)
{
    for (unsigned i = 0; i < 1000000; i++)
        site_16();
    for (unsigned i = 0; i < 8000; i++)
        site_4k();
    for (unsigned i = 0; i < 120; i++)
        site_300k();
    for (unsigned i = 0; i < 4 * 32768; i++)
        site_mix(i);
    printf("{\"program\": \"sites\", \"seed\": 0, \"sites\": [\n");
    print(&small, ",");
    print(&page, ",");
    print(&large, ",");
    print(&mixed, "");
    printf("]}\n");
    return 0;
}
