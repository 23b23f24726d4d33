/* reset_race DIRECTORY DUMPS: so many dumps into DIRECTORY, while one thread allocates and frees, and another resets the
 * profile again and again. */
#include <pthread.h>
#include "allocator.h"

enum { BLOCKS = 20000 };

static volatile bool done;

static void *allocate(void *unused)
{
    static void *held[BLOCKS];
    for (unsigned i = 0; !done; i++) {
        void **slot = &held[i % BLOCKS];
        free(*slot);
        CHECK(*slot = malloc(64));
    }
    return unused;
}

static void *reset(void *unused)
{
    while (!done) {
        CHECK_EQUAL(mallctl("prof.reset", NULL, NULL, NULL, 0), 0);
        usleep(50);
    }
    return unused;
}

int main(int argc, char **argv)
{
    find_allocator();
    CHECK_EQUAL(argc, 3);
    pthread_t allocating, resetting;
    CHECK_EQUAL(pthread_create(&allocating, NULL, allocate, NULL), 0);
    CHECK_EQUAL(pthread_create(&resetting, NULL, reset, NULL), 0);
    for (int i = 0; i < atoi(argv[2]); i++) {
        char path[4096], *given = path;
        snprintf(path, sizeof path, "%s/%d.pb.gz", argv[1], i);
        CHECK_EQUAL(mallctl("prof.dump", NULL, NULL, &given, sizeof given), 0);
    }
    done = true;
    CHECK_EQUAL(pthread_join(allocating, NULL), 0);
    CHECK_EQUAL(pthread_join(resetting, NULL), 0);
    return 0;
}
