/* Tells which variables of the environment secure_getenv finds, and whether the process has more than one thread: as it begins,
 * and when it has allocated something. With an argument it sends itself SIGUSR2 before, with -DOWN_MALLOC it has a malloc of its
 * own. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#ifdef OWN_MALLOC
void *__libc_malloc(size_t bytes);

void *malloc(size_t bytes)
{
    return __libc_malloc(bytes);
}
#endif

#ifdef OWN_GETENV
char *getenv(const char *name)
{
    (void)name;
    return NULL;
}
#endif

static const char *threads(void)
{
    struct stat tasks;
    /* A link for each, and two for the directory. */
    return stat("/proc/self/task", &tasks) ? "unknown" : tasks.st_nlink == 3 ? "one" : "several";
}

int main(int argc, char **argv)
{
    const char *before = threads();
    (void)argv;
    if (argc > 1)
        raise(SIGUSR2);
    const char *names[] = { "MALLOC_CONF", "OTHER", "PATH" };
    for (int i = 0; i < 3; i++)
        printf("%s: %s\n", names[i], secure_getenv(names[i]) ? "found" : "none");
    for (int i = 0; i < 4000; i++)
        if (!malloc(1000))
            return 1;
    printf("threads: %s, then %s\n", before, threads());
    return 0;
}
