/* pause NAME: keeps 100 blocks of 64 KiB, writes false to NAME, keeps 100 of 128 KiB, writes true, keeps 100 of 256 KiB. */
#include "allocator.h"

static void keep(size_t size)
{
    static void *volatile last;
    for (int i = 0; i < 100; i++)
        CHECK(last = malloc(size));
}

static void put(const char *name, bool on)
{
    CHECK_EQUAL(mallctl(name, NULL, NULL, &on, sizeof on), 0);
}

int main(int argc, char **argv)
{
    find_allocator();
    CHECK_EQUAL(argc, 2);
    keep(64 << 10);
    put(argv[1], false);
    keep(128 << 10);
    put(argv[1], true);
    keep(256 << 10);
    return 0;
}
