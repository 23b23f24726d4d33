/* dump_race MODE: dumps that meet each other, and the end of the process, while four threads allocate.
 *   together  eight threads dump ten times each
 *   atexit    a handler of atexit dumps, then exit does
 *   exit      a thread dumps without pause while the main thread returns
 *   abort     a thread dumps without pause while the main thread aborts */
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int mallctl_fn(const char *, void *, size_t *, void *, size_t);

static mallctl_fn *control;

static void *allocate(void *argument)
{
    unsigned state = (unsigned)(size_t)argument * 2654435761u + 1;
    void *held[500] = {0};
    for (;;) {
        state = state * 1664525u + 1013904223u;
        void **slot = &held[(state >> 8) % 500];
        free(*slot);
        *slot = malloc(1 + (state >> 16) % 4000);
    }
    return NULL;
}

static void dump_once(void)
{
    if (control("prof.dump", NULL, NULL, NULL, 0))
        _exit(7);
}

static void *dump_ten(void *unused)
{
    for (int i = 0; i < 10; i++)
        dump_once();
    return unused;
}

static void *dump_always(void *unused)
{
    for (;;)
        control("prof.dump", NULL, NULL, NULL, 0);
    return unused;
}

int main(int argc, char **argv)
{
    control = (mallctl_fn *)dlsym(RTLD_DEFAULT, "mallctl");
    if (argc != 2 || !control)
        return 2;
    pthread_t ids[8];
    for (int i = 0; i < 4; i++)
        if (pthread_create(&ids[i], NULL, allocate, (void *)(size_t)(i + 1)))
            return 3;
    usleep(20000);
    if (!strcmp(argv[1], "together")) {
        for (int i = 0; i < 8; i++)
            if (pthread_create(&ids[i], NULL, dump_ten, NULL))
                return 3;
        for (int i = 0; i < 8; i++)
            pthread_join(ids[i], NULL);
        return 0;
    }
    if (!strcmp(argv[1], "atexit")) {
        atexit(dump_once);
        return 0;
    }
    if (pthread_create(&ids[0], NULL, dump_always, NULL))
        return 3;
    usleep(10000);
    if (!strcmp(argv[1], "abort"))
        abort();
    return 0;
}
