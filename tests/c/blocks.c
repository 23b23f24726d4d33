/* blocks COUNT SIZE: allocates COUNT blocks of SIZE bytes, touches and keeps them, and nothing else.
 *
 * It uses no stdio, so that what it allocates is COUNT x SIZE and a few bytes of the C library's own. */
#include <stdlib.h>
#include <unistd.h>

static void *volatile last;

__attribute__((noinline)) static void allocate(size_t size)
{
    char *block = malloc(size);
    if (!block)
        _exit(3);
    block[0] = 1;
    last = block;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long count = atol(argv[1]);
    size_t size = (size_t)atol(argv[2]);
    for (long i = 0; i < count; i++)
        allocate(size);
    return 0;
}
