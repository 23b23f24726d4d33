/* cross THREADS OPS SLOTS WAIT: THREADS threads swap blocks through SLOTS shared places, OPS each: a block is made and
 * filled by one thread, and read and freed by whichever thread takes it out. Then all are freed, and the threads go on with
 * very little work, for WAIT seconds or until no more is resident than was live. Prints, in KiB: "live N", the bytes that
 * the places held; "peak N", resident then; "after N", resident at the end; and "corrupt N", blocks that were not as
 * filled. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "resident.h"

struct block { uint32_t size, seed; unsigned char bytes[]; };

static _Atomic(struct block *) *slots;
static long ops, slot_count;
static atomic_long corrupt;
static pthread_barrier_t full, empty;
static atomic_int stop;

static uint32_t draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static struct block *make(uint64_t *state)
{
    uint32_t kind = draw(state) % 1000, size;
    if (kind < 900)
        size = draw(state) % 512;
    else if (kind < 995)
        size = draw(state) % 16384;
    else
        size = draw(state) % 200000;
    struct block *block = malloc(sizeof *block + size);
    if (!block)
        abort();
    block->size = size;
    block->seed = draw(state);
    for (uint32_t i = 0; i < size; i += i < 64 ? 1 : 61)
        block->bytes[i] = (unsigned char)(block->seed + i * 7);
    return block;
}

static void check(struct block *block)
{
    if (!block)
        return;
    for (uint32_t i = 0; i < block->size; i += i < 64 ? 1 : 61)
        if (block->bytes[i] != (unsigned char)(block->seed + i * 7)) {
            corrupt++;
            break;
        }
    free(block);
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    for (long i = 0; i < ops; i++)
        check(atomic_exchange(&slots[draw(&state) % slot_count], make(&state)));
    pthread_barrier_wait(&full);
    pthread_barrier_wait(&empty);
    /* Allocators give memory back when they are called. */
    while (!stop) {
        struct timespec pause = {0, 100000000};
        nanosleep(&pause, NULL);
        for (int i = 0; i < 200; i++)
            check(make(&state));
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    int threads = atoi(argv[1]), patience = atoi(argv[4]);
    ops = atol(argv[2]);
    slot_count = atol(argv[3]);
    slots = calloc(slot_count, sizeof *slots);
    pthread_t *ids = calloc(threads, sizeof *ids);
    pthread_barrier_init(&full, NULL, threads + 1);
    pthread_barrier_init(&empty, NULL, threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(intptr_t)(i + 1)))
            return 3;
    pthread_barrier_wait(&full);
    long live = 0, peak = resident_kib();
    for (long i = 0; i < slot_count; i++) {
        live += slots[i] ? (long)slots[i]->size : 0;
        check(atomic_exchange(&slots[i], NULL));
    }
    live /= 1024;
    pthread_barrier_wait(&empty);
    long after = resident_kib();
    for (int tenth = 0; tenth < 10 * patience && after > live; tenth++) {
        struct timespec pause = {0, 100000000};
        nanosleep(&pause, NULL);
        long now = resident_kib();
        after = now < after ? now : after;
    }
    stop = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("live %ld\npeak %ld\nafter %ld\ncorrupt %ld\n", live, peak, after, (long)corrupt);
    return corrupt ? 1 : 0;
}
