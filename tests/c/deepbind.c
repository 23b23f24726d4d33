/* deepbind PLUGIN VIA: loads PLUGIN with RTLD_DEEPBIND and tells whose malloc it uses; if it is the program's, blocks change
 * hands. Has VIA, which is told to look where it lies itself, load PLUGIN by its name alone, which the program can't.
 * With -DPLUGIN it is such a library, with -DVIA the other one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined PLUGIN

void *whose_malloc(void)
{
    return (void *)malloc;
}

char *give(const char *text)
{
    return strdup(text);
}

void take(char *text)
{
    free(text);
}

#elif defined VIA

void *load(const char *name)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_DEEPBIND);
    /* Not a jump: the caller is this library. */
    __asm__ volatile("" ::: "memory");
    return handle;
}

#else

static void *loaded(const char *path, int mode)
{
    void *handle = dlopen(path, mode);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return handle;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    const char *name = strrchr(argv[1], '/') + 1;
    void *via = loaded(argv[2], RTLD_NOW);
    void *(*load)(const char *) = (void *(*)(const char *))dlsym(via, "load");
    printf("by its name: program %s", dlopen(name, RTLD_NOW) ? "finds it" : "doesn't");
    const char *told = dlerror();
    printf(" (%s), library %s\n", told && strstr(told, name) ? "told" : "not told", load(name) ? "does" : "doesn't");

    void *plugin = loaded(argv[1], RTLD_NOW | RTLD_DEEPBIND);
    void *(*whose_malloc)(void) = (void *(*)(void))dlsym(plugin, "whose_malloc");
    if (whose_malloc() != dlsym(RTLD_DEFAULT, "malloc")) {
        puts("another malloc");
        return 0;
    }
    char *(*give)(const char *) = (char *(*)(const char *))dlsym(plugin, "give");
    void (*take)(char *) = (void (*)(char *))dlsym(plugin, "take");
    for (int i = 0; i < 100000; i++) {
        free(give("from there"));
        take(strdup("from here"));
    }
    puts("the same malloc");
    return 0;
}

#endif
