/* exit_race: the main thread returns while eight threads allocate; a handler of atexit, a destructor of the program and
 * destructors of thread-specific data allocate and free, too; some of the threads are ending just then. Exits 0. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_key_t key;

static void use(int rounds)
{
    void *held[50] = {0};
    for (int i = 0; i < rounds; i++) {
        free(held[i % 50]);
        held[i % 50] = memset(malloc(1 + i * 97 % 5000), 1, 1);
    }
    for (int i = 0; i < 50; i++)
        free(held[i]);
}

/* Comes again, so that some of it runs after the allocator's own destructor. */
static void at_thread_end(void *value)
{
    use(60);
    intptr_t left = (intptr_t)value - 1;
    if (left > 0)
        pthread_setspecific(key, (void *)left);
}

static void at_exit_of_process(void)
{
    use(500);
}

__attribute__((destructor)) static void at_unload(void)
{
    use(500);
}

static void *forever(void *argument)
{
    for (;;)
        use(1000);
    return argument;
}

static void *briefly(void *argument)
{
    pthread_setspecific(key, (void *)3);
    use((int)(intptr_t)argument);
    return NULL;
}

int main(void)
{
    pthread_key_create(&key, at_thread_end);
    atexit(at_exit_of_process);
    pthread_t id;
    for (int i = 0; i < 8; i++)
        if (pthread_create(&id, NULL, forever, NULL))
            return 3;
    for (int i = 0; i < 8; i++)
        if (pthread_create(&id, NULL, briefly, (void *)(intptr_t)(100 + i * 100)))
            return 3;
    use(1000);
    return 0;
}
