/* signals THREADS MS RATE: THREADS threads allocate and free for MS milliseconds, while each of them is sent a signal RATE
 * times a second, as far as the machine gets there. The handler walks the stack, as profilers of the processor's time do.
 * Prints how many signals were handled and how many rounds of work were done. A thread that doesn't end within 20 seconds
 * after the time is a hang. */
#define _GNU_SOURCE
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int stop;
static atomic_long handled, rounds;

static void on_signal(int number)
{
    (void)number;
    handled++;
    void *frames[32];
    (void)backtrace(frames, 32);
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    enum { HELD = 400 };
    char *held[HELD] = {0};
    while (!stop) {
        for (int i = 0; i < 1000; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            uint32_t draw = (uint32_t)(state >> 33);
            char **slot = &held[draw % HELD];
            size_t size = 1 + (draw >> 8) % (draw % 32 ? 1500 : 60000);
            free(*slot);
            *slot = malloc(size);
            if (*slot)
                (*slot)[0] = (*slot)[size - 1] = 1;
        }
        rounds++;
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int threads = atoi(argv[1]);
    long ms = atol(argv[2]), rate = atol(argv[3]);
    /* The first walk loads a library. */
    void *frames[4];
    (void)backtrace(frames, 4);
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    pthread_t *ids = calloc(threads, sizeof *ids);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)(i + 1)))
            return 3;
    struct timespec now, end, pause = {0, 1000000000 / rate};
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += ms % 1000 * 1000000;
    do {
        for (int i = 0; i < threads; i++)
            pthread_kill(ids[i], SIGUSR1);
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
    stop = 1;
    alarm(20);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("handled %ld\nrounds %ld\n", (long)handled, (long)rounds);
    return 0;
}
