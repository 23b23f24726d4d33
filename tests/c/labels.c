/* labels: blocks of one site under different labels, in two threads. Prints the bytes of each as JSON. Leaves a file where
 * just-in-time compilers put the names of their functions. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

__attribute__((weak)) int heapsift_label_set(const char *key, const char *value);
__attribute__((weak)) int heapsift_label_unset(const char *key);

static void *volatile last;

__attribute__((noinline)) static void labelled(int count)
{
    for (int i = 0; i < count; i++)
        last = malloc(256);
}

static void *other(void *unused)
{
    (void)unused;
    /* Labels are each thread's own. */
    labelled(10000);
    if (heapsift_label_set("tenant", "blue"))
        abort();
    labelled(30000);
    return NULL;
}

int main(void)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int)getpid());
    FILE *map = fopen(path, "w");
    if (!map || fclose(map))
        abort();
    if (heapsift_label_set("bytes", "x") != EINVAL || heapsift_label_set(NULL, "x") != EINVAL ||
        heapsift_label_set("tenant", "") != EINVAL || heapsift_label_unset("tenant"))
        abort();
    if (heapsift_label_set("tenant", "red"))
        abort();
    labelled(20000);
    pthread_t thread;
    if (pthread_create(&thread, NULL, other, NULL) || pthread_join(thread, NULL))
        abort();
    if (heapsift_label_set("stage", "late"))
        abort();
    labelled(40000);
    if (heapsift_label_unset("tenant") || heapsift_label_unset("stage"))
        abort();
    labelled(50000);
    printf("{\"red\": %d, \"blue\": %d, \"late\": %d, \"none\": %d}\n", 60000 * 256, 30000 * 256, 40000 * 256, 60000 * 256);
    return 0;
}
