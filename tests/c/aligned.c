/* Allocates in a function that is called by one whose stack pointer is aligned further than its caller's, and whose frame
 * has no fixed size, from two callers whose frames lie at different distances from a multiple of that. */
#include <alloca.h>
#include <stdlib.h>
#include <string.h>

static void *kept[20000];
static int used;

__attribute__((noinline)) void allocate(int bytes)
{
    for (int i = 0; i < 100; i++)
        kept[used++] = malloc(bytes);
    __asm__ volatile("");
}

/* More arguments than there are registers for: they lie where the caller's stack pointer was. */
__attribute__((noinline)) int aligned(int bytes, int a, int b, int c, int d, int e, int f, int g)
{
    char wide[128] __attribute__((aligned(64)));
    char *room = alloca(bytes);
    memset(room, 1, bytes);
    memset(wide, 1, sizeof wide);
    __asm__ volatile("" ::"r"(wide), "r"(room) : "memory");
    allocate(bytes);
    __asm__ volatile("" ::"r"(wide), "r"(room) : "memory");
    return a + b + c + d + e + f + g + room[0] + wide[0];
}

__attribute__((noinline)) int within(int bytes)
{
    int sum = aligned(bytes, 1, 2, 3, 4, 5, 6, 7);
    __asm__ volatile("");
    return sum + 1;
}

__attribute__((noinline)) int further(int bytes)
{
    char room[56];
    __asm__ volatile("" ::"r"(room) : "memory");
    int sum = within(bytes);
    __asm__ volatile("");
    return sum + 1;
}

int main(void)
{
    int sum = 0;
    for (int i = 0; i < 50; i++)
        sum += within(100 + i % 3) + further(100 + i % 5);
    return sum != 50 * (31 + 32);
}
