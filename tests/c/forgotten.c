/* forgotten PATH: blocks that were all sampled are freed by a thread, while another resets the profile in the midst of it; no
 * block is sampled after that. Then the profile of lives goes to PATH. */
#include <pthread.h>
#include "allocator.h"

enum { BLOCKS = 300000 };

static void *held[BLOCKS];
static volatile int freed;

static void *give_back(void *unused)
{
    for (int i = 0; i < BLOCKS; i++) {
        free(held[i]);
        freed = i;
    }
    return unused;
}

int main(int argc, char **argv)
{
    find_allocator();
    CHECK_EQUAL(argc, 2);
    for (int i = 0; i < BLOCKS; i++)
        CHECK(held[i] = malloc(64));
    bool active = false;
    CHECK_EQUAL(mallctl("prof.active", NULL, NULL, &active, sizeof active), 0);
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, give_back, NULL), 0);
    while (freed < BLOCKS / 10)
        usleep(10);
    CHECK_EQUAL(mallctl("prof.reset", NULL, NULL, NULL, 0), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(mallctl("prof.lifetime_dump", NULL, NULL, &argv[1], sizeof argv[1]), 0);
    return 0;
}
