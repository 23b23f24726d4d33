/* forks COUNT THREADS MODE: THREADS threads allocate without pause while the main thread forks COUNT times. Each child
 * frees a block of its parent, allocates, starts a thread, dumps by mallctl("prof.dump") where MODE is "dump", and ends,
 * in turn by _exit and by exit; where MODE is "exec", every 10th becomes /bin/true instead. A child that does not end within
 * 10 seconds is a hang. Exits 0 if every child exited 0. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 512 };

typedef int mallctl_fn(const char *, void *, size_t *, void *, size_t);

static mallctl_fn *control;
static volatile int stop;

static void *allocate(void *argument)
{
    unsigned state = (unsigned)(size_t)argument * 2654435761u + 1;
    static __thread void *held[HELD];
    while (!stop) {
        state = state * 1664525u + 1013904223u;
        unsigned slot = (state >> 8) % HELD;
        size_t size = 1 + (state >> 16) % ((state & 63) ? 1024 : 100000);
        free(held[slot]);
        held[slot] = malloc(size);
        memset(held[slot], 1, size < 64 ? size : 64);
    }
    for (int i = 0; i < HELD; i++)
        free(held[i]);
    return NULL;
}

static void *in_child(void *argument)
{
    void *blocks[100];
    for (int i = 0; i < 100; i++)
        blocks[i] = malloc(10 + i * 100);
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
    return argument;
}

static int child(void *block, int number, int dumps, int execs)
{
    alarm(10);
    free(block);
    in_child(NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_child, NULL) || pthread_join(thread, NULL))
        return 10;
    if (dumps && control("prof.dump", NULL, NULL, NULL, 0))
        return 11;
    if (execs && number % 10 == 9) {
        execl("/bin/true", "true", (char *)NULL);
        return 12;
    }
    if (number % 2)
        _exit(0);
    exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int count = atoi(argv[1]), threads = atoi(argv[2]), dumps = !strcmp(argv[3], "dump"), execs = !strcmp(argv[3], "exec");
    control = (mallctl_fn *)dlsym(RTLD_DEFAULT, "mallctl");
    if (dumps && !control)
        return 3;
    pthread_t *ids = calloc(threads, sizeof *ids);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, allocate, (void *)(size_t)(i + 1)))
            return 4;
    int bad = 0;
    for (int i = 0; i < count; i++) {
        void *block = malloc(1000);
        pid_t pid = fork();
        if (pid < 0)
            return 5;
        if (pid == 0)
            _exit(child(block, i, dumps, execs));
        int status;
        if (waitpid(pid, &status, 0) != pid)
            return 6;
        if (status) {
            char line[80];
            int length = snprintf(line, sizeof line, "child %d: %s %d\n", i, WIFSIGNALED(status) ? "signal" : "status",
                                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            if (write(2, line, length) != length || ++bad >= 5)
                break;
        }
        free(block);
    }
    stop = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    return bad ? 1 : 0;
}
