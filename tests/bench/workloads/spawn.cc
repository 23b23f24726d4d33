// Starts a small program many times, one after the other: what loading and the first blocks cost.
//
//   spawn TIMES PROGRAM [ARGUMENT...]
#include <spawn.h>
#include <sys/wait.h>

#include "common.h"

extern char** environ;

int main(int argc, char** argv) {
    uint64_t times = number(argc, argv, 1), sum = 1;
    if (argc < 3) return 2;
    for (uint64_t i = 0; i < times; i++) {
        pid_t child;
        int status = -1;
        if (posix_spawn(&child, argv[2], nullptr, nullptr, argv + 2, environ) != 0 || waitpid(child, &status, 0) < 0) {
            perror(argv[2]);
            return 1;
        }
        sum = mix(sum, status);
    }
    printf("checksum %016llx\n", static_cast<unsigned long long>(sum));
    return 0;
}
