/* handover PAIRS BLOCKS: PAIRS producers, each of which allocates BLOCKS blocks and hands them, in batches, to a consumer of
 * its own, which checks and frees them: all blocks go one way. Prints resident KiB, the highest of each fifth of the way:
 * "fifth KIB" five times. What was freed there must come back here, or memory grows without end. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "resident.h"

enum { BATCH = 256, QUEUE = 8, PAIRS_MAX = 64 };

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void **batches[QUEUE];
    int first, count;
};

static struct queue queues[PAIRS_MAX];
static long blocks;
static long highest[5];

static void *produce(void *argument)
{
    struct queue *queue = argument;
    uint64_t state = (uint64_t)(uintptr_t)argument | 1;
    for (long done = 0; done < blocks; done += BATCH) {
        void **batch = malloc(BATCH * sizeof *batch);
        for (int i = 0; i < BATCH; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            size_t size = 8 + (state >> 33) % 1000;
            batch[i] = memset(malloc(size), (int)size, 8);
        }
        pthread_mutex_lock(&queue->lock);
        while (queue->count == QUEUE)
            pthread_cond_wait(&queue->changed, &queue->lock);
        queue->batches[(queue->first + queue->count++) % QUEUE] = batch;
        pthread_cond_broadcast(&queue->changed);
        pthread_mutex_unlock(&queue->lock);
        if (queue == queues && done / BATCH % 16 == 0) {
            long now = resident_kib(), part = done * 5 / blocks;
            highest[part] = now > highest[part] ? now : highest[part];
        }
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct queue *queue = argument;
    for (long done = 0; done < blocks; done += BATCH) {
        pthread_mutex_lock(&queue->lock);
        while (!queue->count)
            pthread_cond_wait(&queue->changed, &queue->lock);
        void **batch = queue->batches[queue->first];
        queue->first = (queue->first + 1) % QUEUE;
        queue->count--;
        pthread_cond_broadcast(&queue->changed);
        pthread_mutex_unlock(&queue->lock);
        for (int i = 0; i < BATCH; i++) {
            unsigned char *block = batch[i];
            if (memcmp(block, block + 1, 7))
                abort();
            free(block);
        }
        free(batch);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int pairs = argc == 3 ? atoi(argv[1]) : 0;
    if (pairs < 1 || pairs > PAIRS_MAX)
        return 2;
    blocks = atol(argv[2]) / BATCH * BATCH;
    pthread_t ids[2 * PAIRS_MAX];
    for (int i = 0; i < pairs; i++) {
        pthread_mutex_init(&queues[i].lock, NULL);
        pthread_cond_init(&queues[i].changed, NULL);
        if (pthread_create(&ids[2 * i], NULL, produce, &queues[i]) ||
            pthread_create(&ids[2 * i + 1], NULL, consume, &queues[i]))
            return 3;
    }
    for (int i = 0; i < 2 * pairs; i++)
        pthread_join(ids[i], NULL);
    for (int i = 0; i < 5; i++)
        printf("fifth %ld\n", highest[i]);
    return 0;
}
