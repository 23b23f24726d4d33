/* threads TOTAL BATCH: TOTAL threads, BATCH at a time. Each allocates, frees most, and hands 40 blocks to the main
 * thread, which frees them when the batch has ended. Prints resident KiB after the first batch and at the end. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEPT = 40, WORK = 4000, HELD = 256 };

struct job { unsigned seed; void *kept[KEPT]; };

static pthread_barrier_t together;

static void *work(void *argument)
{
    struct job *job = argument;
    void *held[HELD] = {0};
    unsigned state = job->seed * 2654435761u + 1;
    for (int i = 0; i < WORK; i++) {
        state = state * 1664525u + 1013904223u;
        unsigned slot = (state >> 8) % HELD;
        size_t size = 16 + (state >> 16) % 2048;
        free(held[slot]);
        char *block = malloc(size);
        if (!block)
            abort();
        block[0] = block[size - 1] = (char)i;
        held[slot] = block;
    }
    /* All threads of a batch hold what they hold at the same moment, in each batch, however they are scheduled. */
    pthread_barrier_wait(&together);
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    for (int i = 0; i < KEPT; i++)
        job->kept[i] = malloc(100);
    return NULL;
}

static long resident_kib(void)
{
    long total, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &total, &resident) != 2)
        abort();
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int total = atoi(argv[1]), batch = atoi(argv[2]);
    pthread_barrier_init(&together, NULL, batch);
    struct job *jobs = calloc(batch, sizeof *jobs);
    pthread_t *threads = calloc(batch, sizeof *threads);
    for (int started = 0; started < total; started += batch) {
        for (int i = 0; i < batch; i++) {
            jobs[i].seed = started + i;
            if (pthread_create(&threads[i], NULL, work, &jobs[i]))
                abort();
        }
        for (int i = 0; i < batch; i++) {
            pthread_join(threads[i], NULL);
            for (int k = 0; k < KEPT; k++)
                free(jobs[i].kept[k]);
        }
        if (started == 0)
            printf("first %ld\n", resident_kib());
    }
    printf("last %ld\n", resident_kib());
    return 0;
}
