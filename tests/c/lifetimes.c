/* lifetimes: blocks that are freed at once, blocks that another thread frees after 150 ms, and blocks that stay. Writes the
 * bytes of each to standard output as JSON. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BRIEF = 400000, LATER = 20000, KEPT = 5000, SIZE = 512 };

static void *later[LATER], *kept[KEPT];

__attribute__((noinline)) static void life_brief(void) {
    for (int i = 0; i < BRIEF; i++) {
        char *volatile block = malloc(SIZE);
        *block = 1;
        free(block);
    }
}

__attribute__((noinline)) static void life_later(void) {
    for (int i = 0; i < LATER; i++)
        later[i] = malloc(SIZE);
}

__attribute__((noinline)) static void life_kept(void) {
    for (int i = 0; i < KEPT; i++)
        kept[i] = malloc(SIZE);
}

static void *end(void *unused) {
    (void)unused;
    for (int i = 0; i < LATER; i++)
        free(later[i]);
    return NULL;
}

int main(void) {
    life_brief();
    life_later();
    life_kept();
    nanosleep(&(struct timespec){.tv_nsec = 150 * 1000 * 1000}, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, end, NULL) || pthread_join(thread, NULL))
        return 1;
    printf("{\"life_brief\": %d, \"life_later\": %d, \"life_kept\": 0}\n", BRIEF * SIZE, LATER * SIZE);
    return 0;
}
