/* peak PROGRAM [ARGUMENT...]: runs a program with LD_PRELOAD=$PEAK_PRELOAD and prints its peak resident KiB. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    pid_t pid = fork();
    if (pid == 0) {
        const char *preload = getenv("PEAK_PRELOAD");
        if (preload)
            setenv("LD_PRELOAD", preload, 1);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid || status)
        return 1;
    printf("%ld\n", usage.ru_maxrss);
    return 0;
}
