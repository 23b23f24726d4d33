/* freed_by DIRECTORY [many]: blocks of two sites are freed at two others, one of them in another thread, and the profile of
 * lives goes to DIRECTORY/all; then to `child` by a child that has freed one block more, and to `reset` after a reset and one
 * more. `many`: more kinds of frees than there is room for, and the profile to DIRECTORY/many. */
#include "allocator.h"
#include <pthread.h>
#include <sys/wait.h>

enum { SIZE = 512, MOST = 400, DEPTH = 64, SIZES = 33 };

static void *held[MOST];
static const char *directory;

__attribute__((noinline)) static void get_here(int count) {
    for (int i = 0; i < count; i++)
        CHECK(held[i] = malloc(SIZE));
}

__attribute__((noinline)) static void get_there(int count) {
    for (int i = 0; i < count; i++)
        CHECK(held[i] = malloc(SIZE));
}

__attribute__((noinline)) static void drop_here(int count) {
    for (int i = 0; i < count; i++)
        free(held[i]);
    __asm__ volatile("");
}

__attribute__((noinline)) static void drop_there(int count) {
    for (int i = 0; i < count; i++)
        free(held[i]);
    __asm__ volatile("nop");
}

static void *in_thread(void *count) {
    pthread_setname_np(pthread_self(), "dropper");
    drop_there((int)(intptr_t)count);
    return NULL;
}

static void drop_in_thread(int count) {
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, in_thread, (void *)(intptr_t)count), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
}

static void dump(const char *name) {
    char path[512], *at = path;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    CHECK_EQUAL(mallctl("prof.lifetime_dump", NULL, NULL, &at, sizeof at), 0);
}

/* The size classes from 16 bytes on. */
static size_t size_class(int i) {
    return (size_t)(i < 8 ? 16 + 16 * i : (5 + i % 4) << (5 + (i - 8) / 4));
}

/* Blocks of many sizes, from one stack for each depth. */
__attribute__((noinline)) static void get_deep(int depth, void **to) {
    if (depth)
        get_deep(depth - 1, to);
    else
        for (int i = 0; i < SIZES; i++)
            CHECK(to[i] = malloc(size_class(i)));
    __asm__ volatile("");
}

__attribute__((noinline)) static void drop_deep(int depth, void **from) {
    if (depth)
        drop_deep(depth - 1, from);
    else
        for (int i = 0; i < SIZES; i++)
            free(from[i]);
    __asm__ volatile("");
}

int main(int argc, char **argv) {
    find_allocator();
    CHECK(argc > 1);
    directory = argv[1];
    if (argc > 2) {
        void *blocks[SIZES];
        for (int get = 0; get < DEPTH; get++)
            for (int drop = 0; drop < DEPTH; drop++) {
                get_deep(get, blocks);
                drop_deep(drop, blocks);
            }
        dump("many");
        return 0;
    }
    get_here(100), drop_here(100);
    get_here(200), drop_in_thread(200);
    get_there(300), drop_here(300);
    get_there(400), drop_in_thread(400);
    dump("all");
    get_here(1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        drop_here(1);
        dump("child");
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_EQUAL(mallctl("prof.reset", NULL, NULL, NULL, 0), 0);
    get_there(1);
    drop_in_thread(1);
    dump("reset");
    return 0;
}
