/* differential_blocks: what the standard functions and those with flags answer; see differential.h. */
#include <malloc.h>
#include "differential.h"

static const size_t sizes[] = { 1, 7, 8, 9, 16, 17, 48, 100, 128, 129, 500, 1024, 1025, 3000, 4096, 4097, 8192, 10000,
                                14336, 14337, 16384, 16385, 20480, 32768, 32769, 100000, 114688, 1 << 20, (1 << 20) + 1,
                                3 << 20, (8 << 20) - 1, 8 << 20, 9 << 20 };
static const size_t enormous[] = { (size_t)0x7000000000000000, (size_t)0x7000000000000001, PTRDIFF_MAX,
                                   (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX };
enum { SIZES = sizeof sizes / sizeof *sizes, ENORMOUS = sizeof enormous / sizeof *enormous };

static size_t low_bits(const void *block, size_t alignment)
{
    return (uintptr_t)block & (alignment - 1);
}

static bool zeroed(const unsigned char *block, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (block[i])
            return false;
    return true;
}

static void with_flags(void)
{
    static const struct { const char *name; int flags; } caches[] = {
        { "", 0 }, { "|NONE", MALLOCX_TCACHE_NONE }, { "|ARENA(0)", MALLOCX_ARENA(0) },
        { "|ARENA(0)|NONE", MALLOCX_ARENA(0) | MALLOCX_TCACHE_NONE }, { "|ZERO", MALLOCX_ZERO },
        { "|ZERO|NONE", MALLOCX_ZERO | MALLOCX_TCACHE_NONE } };
    static const int lgs[] = { 0, 3, 4, 5, 6, 7, 10, 12, 13, 14, 16, 21 };
    for (int i = 0; i < SIZES; i++)
        for (unsigned l = 0; l < sizeof lgs / sizeof *lgs; l++)
            for (unsigned k = 0; k < sizeof caches / sizeof *caches; k++) {
                int flags = MALLOCX_LG_ALIGN(lgs[l]) | caches[k].flags;
                const char *call = label("mallocx(%zu, LG_ALIGN(%d)%s)", sizes[i], lgs[l], caches[k].name);
                size_t foretold = nallocx(sizes[i], flags);
                void *block = mallocx(sizes[i], flags);
                CHECK(block);
                answer(call, "%zu foretold %zu off %zu zero %d", sallocx(block, flags), foretold,
                       low_bits(block, (size_t)1 << lgs[l]), flags & MALLOCX_ZERO ? zeroed(block, sizes[i]) : 1);
                memset(block, 0xd1, sizes[i]);
                if (k % 2)
                    sdallocx(block, sizes[i], flags);
                else
                    dallocx(block, flags);
            }
    for (int i = 0; i < ENORMOUS; i++) {
        const char *call = label("mallocx(%zu, 0)", enormous[i]);
        size_t foretold = nallocx(enormous[i], 0);
        answer(call, "%d foretold %zu", mallocx(enormous[i], 0) != NULL, foretold);
        call = label("mallocx(%zu, LG_ALIGN(21))", enormous[i]);
        foretold = nallocx(enormous[i], 21);
        answer(call, "%d foretold %zu", mallocx(enormous[i], 21) != NULL, foretold);
    }
    const char *call = label("mallocx(100, ARENA(1000))");
    answer(call, "%d", mallocx(100, MALLOCX_ARENA(1000)) != NULL);
}

static void resizes(void)
{
    for (int i = 0; i < SIZES; i++)
        for (int k = 0; k < SIZES; k += 2) {
            unsigned char *block = mallocx(sizes[i], 0);
            memset(block, 0x3c, sizes[i]);
            const char *call = label("rallocx(%zu, %zu, ZERO)", sizes[i], sizes[k]);
            size_t before = sallocx(block, 0);
            memset(block, 0x3c, before);
            block = rallocx(block, sizes[k], MALLOCX_ZERO);
            size_t now = sallocx(block, 0), kept = 0;
            while (kept < before && kept < now && block[kept] == 0x3c)
                kept++;
            answer(call, "%zu prefix %d rest %d", now, kept == before || kept == now, now <= before || zeroed(block + before, now - before));
            dallocx(block, 0);
            if (sizes[i] <= 14336) {
                block = mallocx(sizes[i], 0);
                call = label("xallocx(%zu, %zu, 0)", sizes[i], sizes[k]);
                answer(call, "%zu", xallocx(block, sizes[k], 0, 0));
                call = label("xallocx(%zu, %zu, %zu)", sizes[i], sizes[k], sizes[k]);
                answer(call, "%zu", xallocx(block, sizes[k], sizes[k], 0));
                dallocx(block, 0);
            } else if (sizes[k] < sizes[i]) {
                /* A large block can be made smaller where it is, but for the samples of jemalloc's profiler: hence some
                 * more attempts. (Whether it can be made larger is chance.) */
                size_t made = 0;
                call = label("xallocx(%zu, %zu, 0)", sizes[i], sizes[k]);
                for (int attempt = 0; attempt < 5 && (attempt == 0 || made == nallocx(sizes[i], 0)); attempt++) {
                    block = mallocx(sizes[i], 0);
                    made = xallocx(block, sizes[k], 0, 0);
                    dallocx(block, 0);
                }
                answer(call, "%zu", made);
            }
        }
    for (int i = 0; i < ENORMOUS; i++) {
        void *block = mallocx(1000, 0);
        const char *call = label("rallocx(1000, %zu, 0)", enormous[i]);
        answer(call, "%d", rallocx(block, enormous[i], 0) != NULL);
        call = label("xallocx(1000, %zu, 0)", enormous[i]);
        answer(call, "%zu", xallocx(block, enormous[i], 0, 0));
        call = label("realloc(1000, %zu)", enormous[i]);
        answer(call, "%d", realloc(block, enormous[i]) != NULL);
        free(block);
    }
}

static void standard(void)
{
    void *block;
    for (int i = 0; i < SIZES; i++) {
        const char *call = label("malloc(%zu)", sizes[i]);
        block = malloc(sizes[i]);
        answer(call, "%zu off %zu", malloc_usable_size(block), low_bits(block, sizes[i] < 16 ? 8 : 16));
        free(block);
        call = label("calloc(%zu, 3)", sizes[i]);
        block = calloc(sizes[i], 3);
        answer(call, "%zu zero %d", malloc_usable_size(block), zeroed(block, sizes[i] * 3));
        free(block);
    }
    for (int i = 0; i < ENORMOUS; i++) {
        const char *call = label("malloc(%zu)", enormous[i]);
        answer(call, "%d", malloc(enormous[i]) != NULL);
        call = label("calloc(%zu, 2)", enormous[i]);
        answer(call, "%d", calloc(enormous[i], 2) != NULL);
        call = label("calloc(2, %zu)", enormous[i]);
        answer(call, "%d", calloc(2, enormous[i]) != NULL);
        call = label("valloc(%zu)", enormous[i]);
        answer(call, "%d", valloc(enormous[i]) != NULL);
    }
    static const size_t alignments[] = { 0, 1, 2, 3, 4, 8, 12, 16, 24, 64, 4096, 5000, 1 << 21, (size_t)1 << 46, (size_t)1 << 63, SIZE_MAX };
    static const size_t asked[] = { 0, 1, 100, 5000, 100000, SIZE_MAX };
    for (unsigned i = 0; i < sizeof alignments / sizeof *alignments; i++)
        for (unsigned k = 0; k < sizeof asked / sizeof *asked; k++) {
            size_t alignment = alignments[i], bytes = asked[k];
            if (alignment >= (size_t)1 << 46 && alignment != SIZE_MAX && bytes < SIZE_MAX)
                continue;
            void *poison = &poison;
            block = poison;
            const char *call = label("posix_memalign(%zu, %zu)", alignment, bytes);
            int code = posix_memalign(&block, alignment, bytes);
            answer(call, "%d %zu off %zu", code, code ? 0 : malloc_usable_size(block), code ? 0 : low_bits(block, alignment));
            if (code)
                answer(label("posix_memalign(%zu, %zu) leaves the address", alignment, bytes), "%d", block == poison);
            else
                free(block);
            call = label("aligned_alloc(%zu, %zu)", alignment, bytes);
            block = aligned_alloc(alignment, bytes);
            answer(call, "%d %zu", block != NULL, malloc_usable_size(block));
            free(block);
            if (alignment && !(alignment & (alignment - 1))) {
                call = label("memalign(%zu, %zu)", alignment, bytes);
                block = memalign(alignment, bytes);
                answer(call, "%d %zu", block != NULL, malloc_usable_size(block));
                free(block);
            }
        }
    volatile size_t none = 0, all = SIZE_MAX;
    const char *call = label("malloc(0)");
    block = malloc(none);
    answer(call, "%zu", malloc_usable_size(block));
    call = label("realloc(block, 0)");
    answer(call, "%d", realloc(block, none) != NULL);
    call = label("realloc(NULL, 0)");
    block = realloc(NULL, none);
    answer(call, "%zu", malloc_usable_size(block));
    free(block);
    call = label("calloc(0, 0)");
    block = calloc(none, none);
    answer(call, "%zu", malloc_usable_size(block));
    free(block);
    call = label("calloc(0, most)");
    block = calloc(none, all);
    answer(call, "%zu", malloc_usable_size(block));
    free(block);
    call = label("valloc(0)");
    block = valloc(none);
    answer(call, "%zu off %zu", malloc_usable_size(block), low_bits(block, 4096));
    free(block);
    answer(label("malloc_usable_size(NULL)"), "%zu", malloc_usable_size(NULL));
    call = label("free(NULL)");
    free(NULL);
    answer(call, "done");
    call = label("free of a large block");
    free(malloc(50 << 20));
    answer(call, "done");
}

int main(void)
{
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    find_allocator();
    standard();
    with_flags();
    resizes();
    fflush(stdout);
    return 0;
}
