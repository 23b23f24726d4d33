/* fork_cost THREADS MIB ROUNDS: what fork costs the caller in a process of THREADS threads that have all allocated and wait,
 * with MIB in blocks of several sizes, all touched. Prints the median of ROUNDS in microseconds. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_barrier_t together;

static void *wait_here(void *argument)
{
    void *blocks[50];
    for (int i = 0; i < 50; i++)
        blocks[i] = memset(malloc(100 + i * 40), 1, 100);
    for (int i = 0; i < 50; i += 2)
        free(blocks[i]);
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    for (int i = 1; i < 50; i += 2)
        free(blocks[i]);
    return argument;
}

static int compare(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int threads = atoi(argv[1]), rounds = atoi(argv[3]);
    size_t bytes = (size_t)atol(argv[2]) << 20;
    pthread_barrier_init(&together, NULL, threads + 1);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    for (int i = 0; i < threads; i++) {
        pthread_t id;
        if (pthread_create(&id, &attributes, wait_here, NULL))
            return 3;
        pthread_detach(id);
    }
    pthread_barrier_wait(&together);
    size_t sizes[] = {64, 1000, 5000, 60000, 1 << 20};
    for (size_t done = 0, i = 0; done < bytes; done += sizes[i++ % 5])
        if (!memset(malloc(sizes[i % 5]), 1, sizes[i % 5]))
            return 4;
    double *times = calloc(rounds, sizeof *times);
    for (int i = 0; i < rounds; i++) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        pid_t pid = fork();
        clock_gettime(CLOCK_MONOTONIC, &after);
        if (pid == 0)
            _exit(0);
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            return 5;
        times[i] = (after.tv_sec - before.tv_sec) * 1e6 + (after.tv_nsec - before.tv_nsec) / 1e3;
    }
    qsort(times, rounds, sizeof *times, compare);
    printf("%.0f\n", times[rounds / 2]);
    fflush(stdout);
    _exit(0);
}
