/* Tells which variables of the environment secure_getenv finds. With -DOWN_MALLOC the program has a malloc of its own. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#ifdef OWN_MALLOC
void *__libc_malloc(size_t bytes);

void *malloc(size_t bytes)
{
    return __libc_malloc(bytes);
}
#endif

int main(void)
{
    const char *names[] = { "MALLOC_CONF", "OTHER", "PATH" };
    for (int i = 0; i < 3; i++)
        printf("%s: %s\n", names[i], secure_getenv(names[i]) ? "found" : "none");
    return 0;
}
