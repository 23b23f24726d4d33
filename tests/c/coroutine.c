/* coroutine: threads allocate on stacks of their own making, called by code without unwind tables (as a just-in-time compiler
 * makes it) that has put a stray value into the frame pointer: an address where nothing is mapped. The first thread has
 * allocated on its own stack before, which lies above that address; for the second the address was part of a pool of
 * stacks, which has given it back since. Prints "done". */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SMALL = 64 << 10, HOLE = 32 << 20, STACK = 1 << 20, POOL = 2 << 20, ROUNDS = 500 };

static char *other_stack, *code;

__attribute__((noinline)) static void allocate(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        char *volatile block = malloc(4096);
        free(block);
    }
    __asm__ volatile("");
}

/* Calls `function(argument, pointer)` with the stack pointer at `top`. */
static void call_on(void *top, void *function, void (*argument)(void), void *pointer)
{
    __asm__ volatile("mov %%rsp, %%rbx\n\tmov %0, %%rsp\n\tcall *%1\n\tmov %%rbx, %%rsp"
                     : "+r"(top), "+r"(function), "+D"(argument), "+S"(pointer)
                     :
                     : "rbx", "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
}

static void *thread(void *unused)
{
    /* push rbp; mov rbp, rsi; call rdi; pop rbp; ret */
    static const unsigned char jit[] = {0x55, 0x48, 0x89, 0xf5, 0xff, 0xd7, 0x5d, 0xc3};
    allocate();
    memcpy(code, jit, sizeof jit);
    call_on(other_stack + SMALL - 64, code, allocate, other_stack + HOLE / 2);
    return unused;
}

/* Samples at many depths: for each the stack is walked anew. */
__attribute__((noinline)) static void allocate_deep(int depth)
{
    char *volatile block = malloc(4096);
    free(block);
    if (depth > 0)
        allocate_deep(depth - 1);
    __asm__ volatile("");
}

static void on_pool(void (*function)(void), void *half)
{
    allocate_deep(100);
    munmap(half, POOL / 2);
    ((void (*)(void (*)(void), void *))code)(function, (char *)half + 4096);
}

static void *pool_thread(void *pool)
{
    call_on((char *)pool + POOL / 2 - 64, on_pool, allocate, (char *)pool + POOL / 2);
    return pool;
}

int main(void)
{
    char *area = mmap(NULL, HOLE + STACK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED || code == MAP_FAILED)
        return 2;
    other_stack = area;
    if (mprotect(other_stack, SMALL, PROT_READ | PROT_WRITE) || mprotect(area + HOLE, STACK, PROT_READ | PROT_WRITE))
        return 3;
    pthread_attr_t attributes;
    pthread_t id;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, area + HOLE, STACK);
    if (pthread_create(&id, &attributes, thread, NULL) || pthread_join(id, NULL))
        return 4;
    void *pool = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool == MAP_FAILED || pthread_create(&id, NULL, pool_thread, pool) || pthread_join(id, NULL))
        return 5;
    puts("done");
    return 0;
}
