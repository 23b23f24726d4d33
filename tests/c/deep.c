/* deep DEPTH COUNT: COUNT blocks of 64 KiB, each allocated below DEPTH recursive calls. */
#include <stdlib.h>

static void *volatile last;
static volatile int sink;

__attribute__((noinline)) static void bottom(void)
{
    char *block = malloc(64 << 10);
    if (!block)
        abort();
    block[0] = 1;
    last = block;
}

__attribute__((noinline)) static void descend(int depth)
{
    if (depth > 1)
        descend(depth - 1);
    else
        bottom();
    sink = depth; /* keeps the call from being the last thing, and the frame on the stack */
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int depth = atoi(argv[1]), count = atoi(argv[2]);
    for (int i = 0; i < count; i++)
        descend(depth);
    return 0;
}
