/* handler: allocates in handlers of signals that run on a stack of their own: below the interrupted one in the main thread,
 * above it in another. What is interrupted is a function's first instruction, which is where a call by the function before it
 * would return to, but never does; and one behind the instruction that takes the frame pointer from the stack again. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

static void *kept[10000];
static int used;

__attribute__((noinline)) static void allocate(void)
{
    for (int i = 0; i < 10; i++)
        kept[used++] = malloc(1000);
    __asm__ volatile("");
}

static void handle(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    allocate();
    /* Beyond the instruction that can't be run. */
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static jmp_buf back;

void leave(void)
{
    kept[used++] = malloc(2000);
    longjmp(back, 1);
}

void before(void);
void victim(void);
void returning(void);
__asm__(".text\n"
        ".globl before\n"
        ".type before, @function\n"
        "before: .cfi_startproc\n"
        "subq $24, %rsp\n"
        ".cfi_adjust_cfa_offset 24\n"
        "movq $0, (%rsp)\n"
        "call leave\n"
        ".cfi_endproc\n"
        ".size before, . - before\n"
        ".globl victim\n"
        ".type victim, @function\n"
        "victim: .cfi_startproc\n"
        "ud2\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size victim, . - victim\n"
        ".globl returning\n"
        ".type returning, @function\n"
        "returning: .cfi_startproc\n"
        "push %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_offset %rbp, -16\n"
        "pop %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "ud2\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size returning, . - returning\n");

__attribute__((noinline)) static void below(void)
{
    victim();
    returning();
    __asm__ volatile("");
}

__attribute__((noinline)) static void above(void)
{
    victim();
    returning();
    __asm__ volatile("");
}

static void run(void (*function)(void), char *stack, size_t bytes)
{
    stack_t own = {.ss_sp = stack, .ss_size = bytes};
    sigaltstack(&own, NULL);
    for (int i = 0; i < 20; i++) {
        function();
        if (!setjmp(back))
            before();
    }
}

enum { STACK = 1 << 18, GUARD = 1 << 12 };

static void *start(void *mapped)
{
    run(above, (char *)mapped + STACK + GUARD, STACK);
    return NULL;
}

int main(void)
{
    static char room[STACK];
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGILL, &action, NULL);
    run(below, room, STACK);
    /* A thread's stack, and beyond an inaccessible page the one for its signals. */
    char *mapped = mmap(NULL, 2 * STACK + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped + STACK, GUARD, PROT_NONE))
        return 1;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, mapped, STACK);
    return pthread_create(&thread, &attributes, start, mapped) || pthread_join(thread, NULL);
}
