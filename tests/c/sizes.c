/* sizes COUNT: COUNT requests by functions and of sizes, counts and alignments drawn by lot, most of them near what can't be:
 * the largest numbers, the sign bit, whole pages and powers of two, products that overflow. What each must answer is worked
 * out beside it: a block, or null and EINVAL or ENOMEM; a free keeps errno. Prints how many were refused. */
#define _GNU_SOURCE
#include <malloc.h>
#include "check.h"

static uint64_t state = 88172645463325252u;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* Half of them possible. */
static size_t size(void)
{
    static const size_t edges[] = {0, SIZE_MAX, PTRDIFF_MAX, (size_t)1 << 63, (size_t)1 << 48, (size_t)1 << 47, (size_t)1 << 32, 4096, 1 << 21};
    switch (draw() % 6) {
    case 0:
    case 1:
    case 2:
        return draw() % 20000;
    case 3:
        return edges[draw() % 9] + draw() % 3 - 1;
    case 4:
        return edges[draw() % 9] + (draw() % 3 - 1) * 4096;
    default:
        return draw() >> draw() % 17;
    }
}

static size_t alignment(void)
{
    size_t power = (size_t)1 << draw() % 64;
    switch (draw() % 6) {
    case 0:
        return power + draw() % 3 - 1;
    case 1:
        return power * 3;
    default:
        return (size_t)1 << draw() % 16;
    }
}

static int is_power(size_t n)
{
    return n && !(n & (n - 1));
}

/* Whether a block of that many bytes must be refused, whatever memory there is: more than an address space holds. */
static int too_large(size_t bytes)
{
    return bytes > (size_t)1 << 47;
}

/* What the kernel may refuse or grant: not looked at. */
static int unsure(size_t bytes)
{
    return bytes > (size_t)1 << 30;
}

static long refused;

static void answer(void *block, int expected, size_t bytes, size_t align, int is_unsure)
{
    int said = errno;
    if (!block) {
        refused++;
        CHECK(expected || is_unsure);
        CHECK(said == (expected ? expected : ENOMEM));
        return;
    }
    CHECK(!expected && said == UNTOUCHED);
    CHECK((uintptr_t)block % align == 0 && malloc_usable_size(block) >= bytes);
    if (bytes && bytes < 1 << 20)
        ((char *)block)[0] = ((char *)block)[bytes - 1] = 1;
    QUIETLY(free(block));
}

int main(int argc, char **argv)
{
    long count = argc == 2 ? atol(argv[1]) : 0;
    for (long i = 0; i < count; i++) {
        size_t bytes = size(), other = size(), align = alignment(), product;
        int overflows = __builtin_mul_overflow(bytes, other, &product);
        int enomem = too_large(bytes) ? ENOMEM : 0;
        int aligned = !is_power(align) ? EINVAL : too_large(bytes) || align > (size_t)1 << 46 ? ENOMEM : 0;
        int is_unsure = unsure(bytes) || align > (size_t)1 << 30;
        void *block = &block;
        errno = UNTOUCHED;
        switch (draw() % 10) {
        case 0:
            answer(malloc(bytes), enomem, bytes, 1, unsure(bytes));
            break;
        case 1:
            answer(calloc(bytes, other), overflows || too_large(product) ? ENOMEM : 0, product, 1, unsure(product));
            break;
        case 2:
            block = realloc(NULL, bytes);
            answer(block, enomem, bytes, 1, unsure(bytes));
            break;
        case 3:
            block = reallocarray(NULL, bytes, other);
            answer(block, overflows || too_large(product) ? ENOMEM : 0, product, 1, unsure(product));
            break;
        case 4:
            block = memalign(align, bytes);
            answer(block, aligned, bytes, is_power(align) ? align : 1, is_unsure);
            break;
        case 5:
            block = aligned_alloc(align, bytes);
            answer(block, aligned, bytes, is_power(align) ? align : 1, is_unsure);
            break;
        case 6: {
            int said = posix_memalign(&block, align, bytes);
            CHECK(errno == UNTOUCHED);
            CHECK(said == 0 || block == &block);
            errno = said ? said : UNTOUCHED;
            int expected = is_power(align) && align < sizeof(void *) ? EINVAL : aligned;
            answer(said ? NULL : block, expected, bytes, is_power(align) ? align : 1, is_unsure);
            break;
        }
        case 7:
            block = valloc(bytes);
            answer(block, enomem, bytes, 4096, unsure(bytes));
            break;
        case 8:
            block = pvalloc(bytes);
            answer(block, too_large(bytes) ? ENOMEM : 0, bytes, 4096, unsure(bytes));
            break;
        default: {
            char *kept = malloc(100), *moved;
            memset(kept, 'k', 100);
            errno = UNTOUCHED;
            moved = realloc(kept, bytes ? bytes : 1);
            int said = errno;
            char *there = moved ? moved : kept;
            for (size_t at = 0; at < 100 && (!moved || at < bytes); at++)
                CHECK(there[at] == 'k');
            errno = said;
            if (!moved) {
                QUIETLY(free(kept));
                errno = said;
            }
            answer(moved, enomem, bytes ? bytes : 1, 1, unsure(bytes));
        }
        }
    }
    printf("refused %ld\n", refused);
    return 0;
}
