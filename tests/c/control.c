/* control: a small program that talks to the allocator through mallctl, found by name. Each argument is a command:
 *   dump PATH   mallctl("prof.dump") to PATH ("-": the automatic name); prints "dump R", R being what it returned
 *   alloc N     allocates N blocks of 4 KiB and keeps them
 *   read NAME   prints the size_t called NAME, after a new epoch
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int mallctl_fn(const char *, void *, size_t *, void *, size_t);

static void *volatile last;

__attribute__((noinline)) static void keep(void)
{
    char *block = malloc(4096);
    if (!block)
        abort();
    block[0] = 1;
    last = block;
}

int main(int argc, char **argv)
{
    mallctl_fn *control = (mallctl_fn *)dlsym(RTLD_DEFAULT, "mallctl");
    if (!control)
        return 3;
    setvbuf(stdout, NULL, _IOLBF, 256);
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *word = argv[i + 1];
        if (!strcmp(argv[i], "dump")) {
            int answer = strcmp(word, "-") ? control("prof.dump", NULL, NULL, &word, sizeof word)
                                           : control("prof.dump", NULL, NULL, NULL, 0);
            printf("dump %d\n", answer);
        } else if (!strcmp(argv[i], "alloc")) {
            for (long n = atol(word); n > 0; n--)
                keep();
        } else if (!strcmp(argv[i], "read")) {
            uint64_t epoch = 1;
            size_t value = 0, length = sizeof value;
            control("epoch", NULL, NULL, &epoch, sizeof epoch);
            int answer = control(word, &value, &length, NULL, 0);
            printf("%s %d %zu\n", word, answer, value);
        } else
            return 2;
    }
    return 0;
}
