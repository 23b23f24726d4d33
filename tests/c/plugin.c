/* plugin: a library to be loaded and unloaded. NAME is what its function is called, and PAD makes its code longer, so that two
 * of them have different code at the same places. */
#include <stdlib.h>

#ifndef NAME
#define NAME plugin_one
#define PAD 1
#endif

__attribute__((noinline)) static void *inner(unsigned size)
{
    volatile char room[16 * PAD];
    room[0] = 1;
    void *block = malloc(size + (unsigned)room[0]);
    return block;
}

void *NAME(unsigned size)
{
    volatile char room[48 * PAD];
    room[0] = 0;
    void *block = inner(size + (unsigned)room[0]);
    __asm__ volatile("" ::: "memory");
    return block;
}
