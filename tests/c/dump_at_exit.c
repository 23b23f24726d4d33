/* A library to be preloaded: when the program ends, writes the dumps that DUMP_NAMES (mallctl names, by spaces) asks for,
 * each under its numbered name. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);

__attribute__((destructor)) static void dump(void)
{
    char *names = getenv("DUMP_NAMES");
    const char *path = NULL;
    for (char *name = names ? strtok(names, " ") : NULL; name; name = strtok(NULL, " ")) {
        int failed = mallctl(name, NULL, NULL, &path, sizeof path);
        if (failed)
            fprintf(stderr, "%s: %s\n", name, strerror(failed));
    }
}
