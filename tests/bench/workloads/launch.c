// Runs a program under an allocator and writes what it took. Small and static, because a program's peak of resident
// memory is never told lower than that of the process that has started it.
//
//   launch RESULT LIBRARY|- PROGRAM [ARGUMENT...]
//
// RESULT gets one line: microseconds of CPU time (user and system, children that it waited for included), microseconds
// of wall time, KiB of the peak, exit status (128 + signal for one that was killed).
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    if (strcmp(argv[2], "-") != 0)
        setenv("LD_PRELOAD", argv[2], 1);
    long long start = now();
    pid_t child = vfork();
    if (child == 0) {
        execvp(argv[3], argv + 3);
        _exit(127);
    }
    int status;
    struct rusage usage;
    while (wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR)
            return 1;
    long long wall = now() - start;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    FILE *result = fopen(argv[1], "w");
    if (result == NULL)
        return 1;
    fprintf(result, "%lld %lld %ld %d\n", microseconds(usage.ru_utime) + microseconds(usage.ru_stime), wall,
            usage.ru_maxrss, code);
    return fclose(result) == 0 ? 0 : 1;
}
