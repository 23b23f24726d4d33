/* first_ends PATH: the first thread ends before another one, which allocates and keeps 4 MiB, has a dump written there, if
 * PATH isn't empty, and ends as the last one. The program ends with status 0 then. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int mallctl_fn(const char *, void *, size_t *, void *, size_t);

enum { BLOCKS = 64, BLOCK = 64 << 10 };

static void *kept[BLOCKS];

/* Whether the first thread, whose number the process has, has ended. */
static int first_is_gone(void)
{
    char text[512] = "";
    FILE *file = fopen("/proc/self/stat", "r");
    if (!file || !fgets(text, sizeof text, file))
        abort();
    fclose(file);
    return strstr(text, ") Z ") != NULL;
}

__attribute__((noinline)) static void keep_blocks(void)
{
    for (int i = 0; i < BLOCKS; i++)
        kept[i] = memset(malloc(BLOCK), 1, BLOCK);
}

static void *work(void *path)
{
    while (!first_is_gone())
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    keep_blocks();
    mallctl_fn *mallctl = (mallctl_fn *)dlsym(RTLD_DEFAULT, "mallctl");
    const char *name = path;
    if (*name && (!mallctl || mallctl("prof.dump", NULL, NULL, &name, sizeof name)))
        abort();
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc != 2 || pthread_create(&thread, NULL, work, argv[1]))
        return 2;
    pthread_exit(NULL);
}
