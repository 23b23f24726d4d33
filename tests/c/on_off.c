/* on_off: the same work before profiling is switched on, while it is, and after it was switched off again. Each stretch is
 * a function of its own, by which a tool can count its instructions. */
#include <heapsift/heapsift.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCKS = 512, ROUNDS = 200000 };
static void *held[BLOCKS];
static uint32_t state = 1;

static void work(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        state = state * 1664525u + 1013904223u;
        unsigned at = (state >> 8) % BLOCKS;
        free(held[at]);
        held[at] = malloc(16 + (state >> 17) % 1000);
    }
}

__attribute__((noinline)) void work_before(void) { work(); __asm__ volatile(""); }
__attribute__((noinline)) void work_during(void) { work(); __asm__ volatile(""); }
__attribute__((noinline)) void work_after(void) { work(); __asm__ volatile(""); }

static void enable(bool on)
{
    int error = mallctl("prof.enable", NULL, NULL, &on, sizeof on);
    if (error) {
        fprintf(stderr, "prof.enable: %d\n", error);
        exit(1);
    }
}

int main(void)
{
    work();
    work_before();
    enable(true);
    work();
    work_during();
    enable(false);
    work();
    work_after();
    return 0;
}
