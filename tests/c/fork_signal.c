/* fork_signal FORKS THREADS: a handler forks, in a process whose only thread allocates and frees without pause; a child of
 * the process sends the signals, each as soon as the one before it was served. With THREADS above 0, so many threads
 * allocate beside it. A child of the handler's ends by _exit at once. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t failed;
/* Shared with the sender: handlers that have run. */
static volatile int *served;

static void on_signal(int number)
{
    (void)number;
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
        failed = 1;
    (*served)++;
}

static volatile int stop;

static void *allocate(void *argument)
{
    unsigned state = (unsigned)(size_t)argument * 2654435761u + 1;
    void *held[256] = {0};
    while (!stop) {
        state = state * 1664525u + 1013904223u;
        void **slot = &held[state >> 24];
        free(*slot);
        size_t size = 1 + (state >> 8) % ((state & 0xf0) ? 3000 : 100000);
        *slot = malloc(size);
        memset(*slot, 1, size < 64 ? size : 64);
    }
    for (int i = 0; i < 256; i++)
        free(held[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int forks = atoi(argv[1]), threads = atoi(argv[2]);
    served = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_t *ids = calloc(threads + 1, sizeof *ids);
    /* The threads beside it don't get the signal. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, allocate, (void *)(size_t)(i + 2)))
            return 3;
    struct sigaction action = {0};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    pid_t parent = getpid(), sender = fork();
    if (sender == 0) {
        for (int i = 0; i < forks; i++) {
            kill(parent, SIGUSR1);
            while (*served == i) {
                if (getppid() != parent)
                    _exit(1);
                usleep(200);
            }
        }
        _exit(0);
    }
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    unsigned state = 1;
    void *held[256] = {0};
    while (*served < forks && !failed) {
        state = state * 1664525u + 1013904223u;
        void **slot = &held[state >> 24];
        free(*slot);
        *slot = malloc(1 + (state >> 8) % ((state & 0xf0) ? 3000 : 100000));
    }
    stop = 1;
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
    int status;
    waitpid(sender, &status, 0);
    printf("served %d\n", *served);
    return failed || *served != forks;
}
