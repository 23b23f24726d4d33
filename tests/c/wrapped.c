/* A program that counts its blocks: its malloc and free are its own, and call the C library's by their other names, as many
 * a wrapper does. The rest of the family it leaves alone. */
#define _GNU_SOURCE
#include <malloc.h>
#include <unistd.h>

#include "check.h"

void *__libc_malloc(size_t bytes);
void __libc_free(void *block);
void *__libc_memalign(size_t align, size_t bytes);
static size_t made, gone;

void *malloc(size_t bytes)
{
    made++;
    return __libc_malloc(bytes);
}

void free(void *block)
{
    gone += block != NULL;
    __libc_free(block);
}

int main(void)
{
    for (size_t bytes = 1; bytes < 100000; bytes += bytes / 3 + 1) {
        unsigned char *blocks[] = { malloc(bytes), calloc(1, bytes), realloc(NULL, bytes), aligned_alloc(64, bytes),
                                    memalign(4096, bytes), valloc(bytes), NULL, __libc_memalign(256, bytes) };
        CHECK(posix_memalign((void **)&blocks[6], 128, bytes) == 0);
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
            CHECK(blocks[i] != NULL && malloc_usable_size(blocks[i]) >= bytes);
            memset(blocks[i], (int)i, bytes);
            CHECK((blocks[i] = realloc(blocks[i], bytes * 2)) != NULL);
            CHECK(blocks[i][bytes - 1] == i);
            free(blocks[i]);
        }
        free(strdup("a copy"));
    }
    CHECK(made > 0 && gone > made);
    CHECK(write(1, "done\n", 5) == 5);
    return 0;
}
