/* unloaded LIBRARY FUNCTION: calls a library's function until it has allocated 4 MiB, unloads the library, and ends. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    void *handle = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    void *(*function)(unsigned) = (void *(*)(unsigned))dlsym(handle, argv[2]);
    for (int i = 0; i < 1024; i++)
        if (!function(4095))
            return 1;
    if (dlclose(handle) || dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD))
        return 1;
    puts("unloaded");
    return 0;
}
