/* many_stacks COUNT: makes COUNT blocks at as many different stacks of 40 frames (run with prof_sample:1), and
 * dumps while another thread allocates. Prints as JSON how long the dump took, the worst latency of an allocation during the
 * dump and during as long a time without one, the memory that the dump added at its peak, and the file's size. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);

enum { DEPTH = 38 };
static void *volatile last;
static atomic_int stopped, seen;
static atomic_long worst_ns;

static long now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

static void left(unsigned path, int depth);
static void right(unsigned path, int depth);

#define STEP(name)                                                                                                  \
    __attribute__((noinline)) static void name(unsigned path, int depth)                                           \
    {                                                                                                              \
        if (depth == 0)                                                                                            \
            last = malloc(64);                                                                                     \
        else if (path & 1)                                                                                         \
            left(path >> 1, depth - 1);                                                                            \
        else                                                                                                       \
            right(path >> 1, depth - 1);                                                                           \
        __asm__ volatile("");                                                                                      \
    }
STEP(left)
STEP(right)

static void *allocate(void *unused)
{
    (void)unused;
    unsigned state = 1;
    while (!stopped) {
        state = state * 1664525u + 1013904223u;
        long before = now_ns();
        void *block = malloc((state >> 20) % 2000);
        free(block);
        long took = now_ns() - before;
        if (took > worst_ns)
            worst_ns = took;
        seen = 1;
    }
    return NULL;
}

static long resident_kib(const char *name)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, name, strlen(name)))
            kib = atol(line + strlen(name) + 1);
    if (status)
        fclose(status);
    return kib;
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 100000;
    for (unsigned i = 0; i < count; i++)
        left(i, DEPTH);
    pthread_t thread;
    if (pthread_create(&thread, NULL, allocate, NULL))
        return 1;
    while (!seen)
        usleep(1000);
    FILE *clear = fopen("/proc/self/clear_refs", "w");
    if (clear) {
        fputs("5", clear);
        fclose(clear);
    }
    long before_kib = resident_kib("VmRSS");
    worst_ns = 0;
    const char *path = "many_stacks.heap.pb.gz";
    long start = now_ns();
    int failed = mallctl("prof.dump", NULL, NULL, &path, sizeof path);
    long took = now_ns() - start;
    long during = worst_ns, peak_kib = resident_kib("VmHWM");
    worst_ns = 0;
    struct timespec pause = {.tv_sec = took / 1000000000, .tv_nsec = took % 1000000000};
    nanosleep(&pause, NULL);
    long control = worst_ns;
    stopped = 1;
    pthread_join(thread, NULL);
    struct stat file = {0};
    stat(path, &file);
    printf("{\"failed\": %d, \"stacks\": %u, \"dump_ms\": %.1f, \"extra_kib\": %ld, \"worst_us\": %.1f, \"control_us\": %.1f, "
           "\"file_bytes\": %ld}\n",
           failed, count, (double)took / 1e6, peak_kib - before_kib, (double)during / 1e3, (double)control / 1e3,
           (long)file.st_size);
    return failed;
}
