/* A library to be preloaded, or a program: allocates in a constructor, and keeps that. */
#include <stdlib.h>

static void *kept[1000];

__attribute__((constructor)) static void allocate(void)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        size_t bytes = 100 + i % 7;
        switch (i % 4) {
        case 0: kept[i] = malloc(bytes); break;
        case 1: kept[i] = calloc(1, bytes); break;
        case 2: kept[i] = realloc(malloc(1), bytes); break;
        default:
            if (posix_memalign(&kept[i], 64, bytes))
                abort();
        }
    }
}

#ifdef PROGRAM
int main(void)
{
    return kept[999] == NULL;
}
#endif
