/* message: a program with a malloc_message that allocates, from the first line on, which may be told while the allocator
 * starts. Prints what it was told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *told;

static void take(void *opaque, const char *text)
{
    if (opaque)
        abort();
    size_t before = told ? strlen(told) : 0, more = strlen(text);
    char *longer = malloc(before + more + 1);
    if (!longer)
        abort();
    if (told)
        memcpy(longer, told, before);
    memcpy(longer + before, text, more + 1);
    free(told);
    told = longer;
}

void (*malloc_message)(void *, const char *) = take;
const char *malloc_conf = "foo:bar";

int main(void)
{
    free(malloc(100));
    printf("%s", told ? told : "nothing\n");
    return 0;
}
