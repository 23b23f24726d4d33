/* A library to be preloaded beside the allocator: a function that is called with each sampled block and its stack, for a
 * debugger to stop at. */
#include <stddef.h>

__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_length, void *new, size_t new_length);

__attribute__((noinline)) void sample_taken(const void *block, size_t size, void **stack, unsigned depth, size_t usable)
{
    __asm__ volatile("" ::"r"(block), "r"(size), "r"(stack), "r"(depth), "r"(usable) : "memory");
}

__attribute__((constructor)) static void set(void)
{
    void (*hook)(const void *, size_t, void **, unsigned, size_t) = sample_taken;
    if (mallctl)
        mallctl("experimental.hooks.prof_sample", NULL, NULL, &hook, sizeof hook);
}
