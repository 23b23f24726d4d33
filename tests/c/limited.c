// Asks for COUNT blocks of so many MiB, and touches none of them; prints how many it has got. With a number for LIMIT, it
// sets itself a limit of so many MiB of address space before, and maps 8 MiB itself; with a number below 0 the limit is set
// behind the back of the C library, and nothing is mapped.
//
//     limited COUNT MIB LIMIT|none

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    long count = atol(argv[1]), mib = atol(argv[2]), got = 0;
    if (strcmp(argv[3], "none") != 0) {
        struct rlimit limit;
        if (getrlimit(RLIMIT_AS, &limit) != 0)
            return 1;
        long given = atol(argv[3]);
        limit.rlim_cur = (rlim_t)labs(given) << 20;
        if (given < 0) {
            if (syscall(SYS_prlimit64, 0, RLIMIT_AS, &limit, NULL) != 0)
                return 1;
        } else if (setrlimit(RLIMIT_AS, &limit) != 0 ||
                   mmap(NULL, 8 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) {
            perror("with a limit of address space");
            return 1;
        }
    }
    while (got < count && malloc((size_t)mib << 20) != NULL)
        got++;
    printf("%ld\n", got);
    return 0;
}
