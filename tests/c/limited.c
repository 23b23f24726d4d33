// Asks for COUNT blocks of so many MiB, and touches none of them; prints how many it has got. With a number for LIMIT, it
// sets itself a limit of so many MiB of address space before.
//
//     limited COUNT MIB LIMIT|none

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    long count = atol(argv[1]), mib = atol(argv[2]), got = 0;
    if (strcmp(argv[3], "none") != 0) {
        struct rlimit limit;
        if (getrlimit(RLIMIT_AS, &limit) != 0)
            return 1;
        limit.rlim_cur = (rlim_t)atol(argv[3]) << 20;
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            return 1;
    }
    while (got < count && malloc((size_t)mib << 20) != NULL)
        got++;
    printf("%ld\n", got);
    return 0;
}
