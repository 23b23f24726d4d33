/* coroutine: a thread allocates on its own stack, then on one of its own making that lies below it, called by code without
 * unwind tables (as a just-in-time compiler makes it) that has put a stray value into the frame pointer: an address between
 * the two stacks, where nothing is mapped. Prints "done". */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SMALL = 64 << 10, HOLE = 32 << 20, STACK = 1 << 20, ROUNDS = 500 };

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
    puts("done");
    return 0;
}
