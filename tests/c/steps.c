/* steps: does what its arguments say, one after the other, and prints a line for each step done.
 *   alloc MIB    allocates that much in blocks of 64 KiB, touches and keeps it
 *   small KIB    allocates that much in blocks of 1 KiB and keeps it
 *   churn KIB    allocates and frees that much in blocks of 1 KiB
 *   stacks N     allocates and keeps one block of 64 bytes from each of N different stacks
 *   passing N    as stacks, but each block is freed before the next is allocated
 *   free         frees all that is kept
 *   sleep MS     sleeps, also through signals
 *   until PATH   waits until there is such a file
 *   kill NUMBER  sends itself a signal
 *   handle NUMBER  installs a handler that counts
 *   counted      prints how often the handler ran
 *   fork         goes on in a child; the parent waits for it and exits with its status
 *   bare         as fork, by a bare system call, and the child exits at once
 *   threads      prints how many threads the process has
 *   fds          prints how many descriptors are open
 *   talk         writes to the standard streams from now on, in another thread
 *   dumps N      calls prof.dump so many times, to numbered files; prints how many failed
 *   dump PATH    calls prof.dump with a name; prints the answer
 *   on NAME      sets a control name to true; off NAME: to false
 *   limit BYTES  sets RLIMIT_FSIZE
 *   ask          asks the kernel whether it takes filters of system calls, and sets none
 *   mark         calls getppid, for whoever traces system calls
 *   stay         waits for signals for ever
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef int mallctl_fn(const char *, void *, size_t *, void *, size_t);

static void **kept;
static size_t kept_count, kept_room;
static volatile sig_atomic_t handled;

static void keep(void *block)
{
    if (!block)
        abort();
    if (kept_count == kept_room) {
        kept_room = kept_room ? 2 * kept_room : 1024;
        kept = realloc(kept, kept_room * sizeof *kept);
        if (!kept)
            abort();
    }
    kept[kept_count++] = block;
}

__attribute__((noinline)) static void allocate(size_t bytes, size_t block)
{
    for (size_t done = 0; done < bytes; done += block)
        keep(memset(malloc(block), 1, block));
}

static void *volatile passing;

__attribute__((noinline)) static void churn(size_t bytes)
{
    for (size_t done = 0; done < bytes; done += 1024) {
        passing = malloc(1024);
        free(passing);
    }
}

/* One of two callers for each bit of a number. The assignment afterwards keeps the calls from becoming jumps. */
static void left(unsigned bits), right(unsigned bits);

static inline void further(unsigned bits)
{
    if (bits <= 1)
        keep(malloc(64));
    else if (bits & 1)
        left(bits >> 1);
    else
        right(bits >> 1);
    passing = NULL;
}

__attribute__((noinline)) static void left(unsigned bits)
{
    further(bits);
}

__attribute__((noinline)) static void right(unsigned bits)
{
    further(bits);
}

static void on_signal(int number)
{
    (void)number;
    handled++;
}

static void nap(long ms)
{
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR)
        ;
}

static int entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    if (!directory)
        return -1;
    while (readdir(directory))
        count++;
    closedir(directory);
    /* "." and ".." */
    return count - 2;
}

static int control(const char *name, void *value, size_t length)
{
    mallctl_fn *mallctl = (mallctl_fn *)dlsym(RTLD_DEFAULT, "mallctl");
    return mallctl ? mallctl(name, NULL, NULL, value, length) : -1;
}

static int dump(const char *path)
{
    return path ? control("prof.dump", &path, sizeof path) : control("prof.dump", NULL, 0);
}

static _Noreturn void *talk(void *argument)
{
    (void)argument;
    for (;;)
        for (int stream = 0; stream < 3; stream++)
            (void)!write(stream, "talk\n", 5);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 256);
    for (int i = 1; i < argc; i++) {
        const char *step = argv[i];
        const char *word = i + 1 < argc ? argv[i + 1] : "";
        long value = atol(word);
        if (!strcmp(step, "alloc")) {
            allocate((size_t)value << 20, 64 << 10);
            i++;
        } else if (!strcmp(step, "small")) {
            allocate((size_t)value << 10, 1 << 10);
            i++;
        } else if (!strcmp(step, "churn")) {
            churn((size_t)value << 10);
            i++;
        } else if (!strcmp(step, "stacks")) {
            for (long n = 1; n <= value; n++)
                left((unsigned)n);
            i++;
        } else if (!strcmp(step, "passing")) {
            for (long n = 1; n <= value; n++) {
                left((unsigned)n);
                free(kept[--kept_count]);
            }
            i++;
        } else if (!strcmp(step, "free")) {
            while (kept_count)
                free(kept[--kept_count]);
        } else if (!strcmp(step, "sleep")) {
            nap(value);
            i++;
        } else if (!strcmp(step, "until")) {
            while (access(word, F_OK))
                usleep(10000);
            i++;
        } else if (!strcmp(step, "kill")) {
            kill(getpid(), (int)value);
            i++;
        } else if (!strcmp(step, "handle")) {
            struct sigaction action = {0};
            action.sa_handler = on_signal;
            sigaction((int)value, &action, NULL);
            i++;
        } else if (!strcmp(step, "counted")) {
            printf("counted %d\n", (int)handled);
            continue;
        } else if (!strcmp(step, "fork")) {
            int status = 0;
            pid_t child = fork();
            if (child < 0)
                return 3;
            if (child > 0) {
                printf("child %d\n", (int)child);
                while (waitpid(child, &status, 0) < 0 && errno == EINTR)
                    ;
                return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            }
        } else if (!strcmp(step, "bare")) {
            pid_t child = (pid_t)syscall(SYS_fork);
            if (child == 0)
                exit(0);
            if (child < 0 || waitpid(child, NULL, 0) < 0)
                return 3;
        } else if (!strcmp(step, "threads")) {
            printf("threads %d\n", entries("/proc/self/task"));
            continue;
        } else if (!strcmp(step, "fds")) {
            /* One of them is the listing's own. */
            printf("fds %d\n", entries("/proc/self/fd") - 1);
            continue;
        } else if (!strcmp(step, "talk")) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, talk, NULL))
                return 3;
        } else if (!strcmp(step, "dumps")) {
            int failed = 0;
            for (long n = 0; n < value; n++)
                failed += dump(NULL) != 0;
            printf("failed %d\n", failed);
            i++;
            continue;
        } else if (!strcmp(step, "dump")) {
            printf("answer %d\n", dump(word));
            i++;
            continue;
        } else if (!strcmp(step, "on") || !strcmp(step, "off")) {
            bool on = !strcmp(step, "on");
            if (control(word, &on, sizeof on))
                return 3;
            i++;
        } else if (!strcmp(step, "limit")) {
            struct rlimit limit = {(rlim_t)value, (rlim_t)value};
            setrlimit(RLIMIT_FSIZE, &limit);
            i++;
        } else if (!strcmp(step, "ask")) {
            /* 2: SECCOMP_MODE_FILTER. */
            if (prctl(PR_SET_SECCOMP, 2, NULL) != -1)
                return 3;
        } else if (!strcmp(step, "mark")) {
            getppid();
        } else if (!strcmp(step, "stay")) {
            printf("stay\n");
            for (;;)
                pause();
        } else
            return 2;
        printf("%s\n", step);
    }
    return 0;
}
