/* fork_stdio FORKS: the main thread forks FORKS times while others hold locks of stdio and allocate: streams that are opened
 * (and so linked into the list of all), written to for the first time (their buffer is allocated under their lock) and
 * closed; a stream in memory that grows; and fflush(NULL), which takes the list's lock and then each stream's. The order in
 * which fork, stdio and an allocator take their locks decides whether it ends. A child writes a line and exits. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int stop;

static void *open_and_close(void *unused)
{
    while (!stop) {
        FILE *file = fopen("/dev/null", "w");
        if (!file)
            abort();
        fprintf(file, "%d\n", 1);
        fclose(file);
    }
    return unused;
}

static void *grow(void *unused)
{
    while (!stop) {
        char *text = NULL;
        size_t length = 0;
        FILE *file = open_memstream(&text, &length);
        if (!file)
            abort();
        for (int i = 0; i < 200; i++)
            fprintf(file, "%0100d", i);
        fclose(file);
        free(text);
    }
    return unused;
}

static void *flush(void *unused)
{
    while (!stop)
        fflush(NULL);
    return unused;
}

static void *allocate(void *unused)
{
    unsigned state = 1;
    void *held[64] = {0};
    while (!stop) {
        state = state * 1664525u + 1013904223u;
        void **slot = &held[state >> 26];
        free(*slot);
        *slot = malloc(1 + (state >> 8) % 40000);
    }
    for (int i = 0; i < 64; i++)
        free(held[i]);
    return unused;
}

int main(int argc, char **argv)
{
    int forks = argc == 2 ? atoi(argv[1]) : 0;
    if (forks < 1)
        return 2;
    void *(*work[])(void *) = {open_and_close, open_and_close, grow, flush, flush, allocate};
    enum { THREADS = sizeof work / sizeof *work };
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&ids[i], NULL, work[i], NULL))
            return 3;
    for (int i = 0; i < forks; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            alarm(20);
            FILE *file = fopen("/dev/null", "w");
            if (!file)
                _exit(4);
            fprintf(file, "child %d\n", i);
            fclose(file);
            fflush(NULL);
            _exit(0);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            return 5;
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    return 0;
}
