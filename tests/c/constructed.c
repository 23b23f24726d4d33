/* A library to be preloaded, or a program: allocates in a constructor, and keeps that. */
#include <stdlib.h>

static void *kept[1000];

__attribute__((constructor)) static void allocate(void)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        kept[i] = malloc(100 + i % 7);
}

#ifdef PROGRAM
int main(void)
{
    return kept[999] == NULL;
}
#endif
