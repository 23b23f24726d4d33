/* faults mix THREADS OPS: each thread makes OPS requests of all kinds and sizes; one that is refused says ENOMEM and changes
 *                       nothing; what was served keeps its contents.
 * faults fill THREADS:  each thread allocates until it is refused, checks and frees all of it, three times; threads that
 *                       can't be started are done without.
 * A program for systems that refuse memory: it must end well whatever is refused. Prints how many requests were. */
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HELD = 300, FILLED = 40000, FILLERS = 8, THREADS_MAX = 256 };

struct held { unsigned char *block; size_t size; unsigned char seed; };

static atomic_long refused;
static long ops;

static void wrong(const char *what)
{
    (void)!write(2, what, strlen(what));
    (void)!write(2, "\n", 1);
    _exit(9);
}

static uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static size_t step(size_t i)
{
    return i < 64 ? 1 : 509;
}

static void fill(struct held *held)
{
    for (size_t i = 0; i < held->size; i += step(i))
        held->block[i] = (unsigned char)(held->seed + i);
}

static void check(const struct held *held, size_t kept)
{
    for (size_t i = 0; i < held->size && i < kept; i += step(i))
        if (held->block[i] != (unsigned char)(held->seed + i))
            wrong("a block has changed");
}

/* Whether the request was served. One that wasn't must have said so. */
static int served(const void *block)
{
    if (block)
        return 1;
    refused++;
    if (errno != ENOMEM)
        wrong("refused without ENOMEM");
    return 0;
}

static void *mix(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    struct held *all = NULL;
    errno = 0;
    all = calloc(HELD, sizeof *all);
    if (!served(all))
        return NULL;
    for (long i = 0; i < ops; i++) {
        struct held *held = &all[draw(&state) % HELD];
        uint32_t kind = draw(&state) % 100;
        size_t size = 1 + draw(&state) % (kind < 80 ? 500 : kind < 97 ? 30000 : 1500000);
        unsigned char seed = (unsigned char)draw(&state);
        errno = 0;
        if (held->block && kind % 4 == 0) {
            unsigned char *moved = realloc(held->block, size);
            if (!served(moved)) {
                check(held, held->size);
                continue;
            }
            held->block = moved;
            check(held, size);
            *held = (struct held){moved, size, seed};
            fill(held);
            continue;
        }
        if (held->block) {
            check(held, held->size);
            free(held->block);
            *held = (struct held){0};
            continue;
        }
        void *block = NULL;
        size_t align = size < 16 ? 8 : 16;
        if (kind % 4 == 1) {
            block = calloc(1, size);
        } else if (kind % 4 == 2) {
            align = (size_t)64 << draw(&state) % 8;
            errno = posix_memalign(&block, align, size);
        } else {
            block = malloc(size);
        }
        if (!served(block))
            continue;
        if ((uintptr_t)block % align || malloc_usable_size(block) < size)
            wrong("a block that is not aligned, or too short");
        if (kind % 4 == 1)
            for (size_t j = 0; j < size; j += step(j))
                if (((unsigned char *)block)[j])
                    wrong("calloc gave a block that isn't zero");
        *held = (struct held){block, size, seed};
        fill(held);
    }
    for (int i = 0; i < HELD; i++)
        if (all[i].block) {
            check(&all[i], all[i].size);
            free(all[i].block);
        }
    free(all);
    return NULL;
}

static void *fill_up(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument + 1;
    static struct held room[FILLERS][FILLED];
    struct held *all = room[(uintptr_t)argument % FILLERS];
    for (int round = 0; round < 3; round++) {
        int count = 0;
        while (count < FILLED) {
            size_t size = 1 + draw(&state) % (count % 10 ? 30000 : 200000);
            errno = 0;
            unsigned char *block = malloc(size);
            if (!served(block))
                break;
            all[count] = (struct held){block, size, (unsigned char)count};
            /* Only its two ends are touched: it is the address space that is short. */
            block[0] = block[size - 1] = (unsigned char)count;
            count++;
        }
        while (count-- > 0) {
            if (all[count].block[0] != (unsigned char)count || all[count].block[all[count].size - 1] != (unsigned char)count)
                wrong("a block has changed");
            free(all[count].block);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int threads = atoi(argv[2]), fills = !strcmp(argv[1], "fill");
    ops = argc > 3 ? atol(argv[3]) : 0;
    void *(*work)(void *) = fills ? fill_up : mix;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_t ids[THREADS_MAX];
    int started = 0;
    for (int i = 0; i < threads && i < (fills ? FILLERS - 1 : THREADS_MAX); i++)
        if (pthread_create(&ids[started], &attributes, work, (void *)(uintptr_t)(i + 1)) == 0)
            started++;
    work(NULL);
    for (int i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    char line[40];
    int length = snprintf(line, sizeof line, "refused %ld\n", (long)refused);
    (void)!write(1, line, (size_t)length);
    return 0;
}
