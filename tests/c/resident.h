/* resident.h: what the kernel says of this process's memory. */
#ifndef RESIDENT_H
#define RESIDENT_H

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* Resident KiB, without allocating anything for the question. */
static inline long resident_kib(void)
{
    char text[128] = {0};
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        abort();
    close(file);
    char *rest;
    strtol(text, &rest, 10);
    return strtol(rest, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024);
}

#endif
