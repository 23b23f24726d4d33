/* small_stack: a thread with the stack of a coroutine, 24 KiB, allocates; what the allocator does besides runs on it, too.
 * Prints "done". */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

static void *thread(void *unused)
{
    for (int i = 0; i < 300; i++) {
        void *volatile block = malloc(100000);
        free(block);
    }
    return unused;
}

int main(void)
{
    pthread_attr_t attributes;
    pthread_t id;
    CHECK(!pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, 24 << 10));
    CHECK(!pthread_create(&id, &attributes, thread, NULL) && !pthread_join(id, NULL));
    puts("done");
    return 0;
}
