/* Goes into a sandbox that ends the process with whatever is no call for memory or threads, as servers do before they talk
 * to strangers, and works on, in threads too. */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

enum { THREADS = 4, BLOCKS = 256, SWAPS = 1000000, LARGE = 20, LARGE_BYTES = 5 << 20 };

static void *work(void *argument)
{
    uint32_t state = (uint32_t)(uintptr_t)argument;
    unsigned char *held[BLOCKS] = { 0 };
    for (int i = 0; i < SWAPS; i++) {
        state = state * 1664525u + 1013904223u;
        unsigned char **place = &held[state >> 24];
        free(*place);
        CHECK((*place = malloc((state >> 8) % 20000 + 1)) != NULL);
        **place = 1;
    }
    for (int i = 0; i < BLOCKS; i++)
        free(held[i]);
    void *large[LARGE];
    for (int i = 0; i < LARGE; i++)
        memset(large[i] = malloc(LARGE_BYTES), 1, LARGE_BYTES);
    for (int i = 0; i < LARGE; i++)
        free(large[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    int forked = argc > 1 && !strcmp(argv[1], "forked");
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(write), ALLOW(exit), ALLOW(exit_group), ALLOW(futex), ALLOW(mmap), ALLOW(munmap), ALLOW(mremap),
        ALLOW(madvise), ALLOW(mprotect), ALLOW(brk), ALLOW(getrandom),
        ALLOW(sched_yield), ALLOW(rt_sigprocmask), ALLOW(rt_sigaction), ALLOW(rt_sigreturn),
        ALLOW(clone), ALLOW(clone3), ALLOW(rseq), ALLOW(set_robust_list), ALLOW(newfstatat),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
    /* With an argument, it has worked before. */
    if (argc > 1)
        work((void *)1);
    /* As servers have a child speak to strangers; the child ends by exit. */
    pid_t child = forked ? fork() : 0;
    if (child) {
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
        return 0;
    }
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    work((void *)2);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, (void *)(i + 3)) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    puts("done");
    fflush(stdout);
    if (forked)
        exit(0);
    _exit(0);
}
