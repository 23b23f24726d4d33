/* Has the processor fault where its ticks are read, and works on; with an argument, in the strictest of sandboxes, which does
 * that too and knows of no calls for memory. */
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

enum { BLOCKS = 256, SMALL = 1000, LARGE = 20000, ROUNDS = 100 };

static void work(size_t most)
{
    for (int round = 0; round < ROUNDS; round++) {
        char *held[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            CHECK((held[i] = malloc(i * most / BLOCKS + 1)) != NULL);
            held[i][0] = 1;
        }
        for (size_t i = 0; i < BLOCKS; i++)
            free(held[i]);
    }
}

int main(int argc, char **argv)
{
    (void)argv;
    work(SMALL);
    if (argc > 1)
        CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
    else
        CHECK(prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0);
    work(argc > 1 ? SMALL : LARGE);
    syscall(SYS_exit, 0);
}
