/* mappings OPS: operations of all sizes by four threads, as fragmenting as they can be. Prints the highest number of
 * mappings that the process had. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HELD = 5000, THREADS = 4 };

static long ops;
static volatile int stop;

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    char **held = calloc(HELD, sizeof *held);
    for (long i = 0; i < ops; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint32_t draw = (uint32_t)(state >> 33);
        char **slot = &held[draw % HELD];
        size_t size = 1 + (draw >> 8) % (draw % 100 < 90 ? 600 : draw % 100 < 99 ? 20000 : 600000);
        free(*slot);
        *slot = draw % 5 ? malloc(size) : NULL;
        if (*slot)
            (*slot)[0] = (*slot)[size - 1] = 1;
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    free(held);
    return NULL;
}

static long mappings(void)
{
    static char text[1 << 16];
    long lines = 0, got;
    int file = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while ((got = read(file, text, sizeof text)) > 0)
        for (long i = 0; i < got; i++)
            lines += text[i] == '\n';
    close(file);
    return lines;
}

static void *look(void *argument)
{
    long *highest = argument;
    while (!stop) {
        long now = mappings();
        *highest = now > *highest ? now : *highest;
        usleep(20000);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    ops = atol(argv[1]) / THREADS;
    long highest = mappings();
    pthread_t ids[THREADS], looking;
    pthread_create(&looking, NULL, look, &highest);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)(i + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    long last = mappings();
    stop = 1;
    pthread_join(looking, NULL);
    printf("%ld\n", highest > last ? highest : last);
    return 0;
}
