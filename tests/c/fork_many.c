/* fork_many THREADS FORKS: THREADS threads, all of which allocate and free without pause and fork FORKS times each, at once.
 * A child frees blocks of its parent, allocates, forks a child of its own every 8th time, and ends by _exit. Exits 0 if
 * every child exited 0 within 30 seconds. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 200 };

static int forks;
static atomic_int bad;

static void fill(void **held, unsigned *state, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        *state = *state * 1664525u + 1013904223u;
        unsigned slot = (*state >> 8) % HELD;
        size_t size = 1 + (*state >> 16) % ((*state & 31) ? 2000 : 60000);
        free(held[slot]);
        held[slot] = memset(malloc(size), 1, size < 100 ? size : 100);
    }
}

static void child(void **held, unsigned state, int number)
{
    alarm(30);
    fill(held, &state, 500);
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    if (number % 8 == 0) {
        int status;
        pid_t grandchild = fork();
        if (grandchild == 0) {
            free(malloc(5000));
            _exit(0);
        }
        if (grandchild < 0 || waitpid(grandchild, &status, 0) != grandchild || status)
            _exit(9);
    }
    _exit(0);
}

static void *work(void *argument)
{
    unsigned state = (unsigned)(size_t)argument * 2654435761u + 1;
    void *held[HELD] = {0};
    for (int i = 0; i < forks; i++) {
        fill(held, &state, 300);
        int status;
        pid_t pid = fork();
        if (pid == 0)
            child(held, state, i);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
            bad++;
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int threads = atoi(argv[1]);
    forks = atoi(argv[2]);
    pthread_t *ids = calloc(threads, sizeof *ids);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, work, (void *)(size_t)(i + 1)))
            return 3;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    printf("bad %d\n", bad);
    return bad != 0;
}
