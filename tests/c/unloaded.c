/* unloaded LIBRARY FUNCTION [OTHER [FUNCTION]]: calls a library's function until it has allocated 4 MiB, unloads the library,
   loads another one, which comes to where that was, and ends. If the other one's function is given, does the same to it. Where
   something else has come there, all begins once more, at other addresses. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((noinline)) static int use(void *handle, const char *name)
{
    void *(*function)(unsigned) = (void *(*)(unsigned))dlsym(handle, name);
    for (int i = 0; i < 1024; i++)
        if (!function(4095))
            return 0;
    return 1;
}

static int once_more(char **argv)
{
    const char *name = "UNLOADED_TRIES", *before = getenv(name);
    char tries[12];
    snprintf(tries, sizeof tries, "%d", before ? atoi(before) + 1 : 1);
    if (atoi(tries) < 20 && !setenv(name, tries, 1))
        execv("/proc/self/exe", argv);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    void *handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (!use(handle, argv[2]))
        return 1;
    ElfW(Addr) base = ((struct link_map *)handle)->l_addr;
    if (dlclose(handle) || dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD))
        return 1;
    puts("unloaded");
    if (argc > 3) {
        handle = dlopen(argv[3], RTLD_NOW | RTLD_LOCAL);
        if (!handle)
            return 1;
        if (((struct link_map *)handle)->l_addr != base)
            return once_more(argv);
        puts("replaced");
    }
    if (argc > 4 && (!use(handle, argv[4]) || dlclose(handle)))
        return 1;
    return 0;
}
