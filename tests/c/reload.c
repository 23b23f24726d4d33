/* reload SECONDS LIBRARY FUNCTION LIBRARY FUNCTION: loads and unloads two libraries in turn, and calls their functions, while
 * 8 threads allocate and call them too, until so many seconds have passed; keeps the second one at the end, with
 * 4 MiB that it allocated. Prints how often that was done. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { THREADS = 8 };
static atomic_int stopped;
static char **arguments;

static void *(*load(int which, void **handle))(unsigned)
{
    *handle = dlopen(arguments[2 + 2 * which], RTLD_LAZY | RTLD_LOCAL);
    if (!*handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return (void *(*)(unsigned))dlsym(*handle, arguments[3 + 2 * which]);
}

static void *allocate(void *number)
{
    unsigned state = (unsigned)(size_t)number;
    void *blocks[64] = {0};
    while (!stopped) {
        for (int i = 0; i < 200; i++) {
            state = state * 1664525u + 1013904223u;
            free(blocks[state >> 26]);
            blocks[state >> 26] = malloc((state >> 12) % 3000);
        }
        void *handle;
        void *(*function)(unsigned) = load(state >> 31, &handle);
        void *block = function(state >> 20);
        dlclose(handle);
        free(block);
    }
    for (int i = 0; i < 64; i++)
        free(blocks[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 6)
        return 2;
    arguments = argv;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate, (void *)(i + 1)))
            return 1;
    time_t end = time(NULL) + atoi(argv[1]);
    long rounds = 0;
    while (time(NULL) < end) {
        void *handle;
        void *(*function)(unsigned) = load(rounds & 1, &handle);
        for (int i = 0; i < 20; i++)
            free(function(5000));
        dlclose(handle);
        rounds++;
    }
    stopped = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    void *handle;
    void *(*function)(unsigned) = load(1, &handle);
    for (int i = 0; i < 1024; i++)
        if (!function(4095 - i % 2))
            return 1;
    printf("%ld\n", rounds);
    return 0;
}
