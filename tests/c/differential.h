/* Lines "call => answer", which are compared between two allocators. What differs from run to run (addresses, times, most
 * statistics) is left out of answers. */
#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H
#include <stdarg.h>
#include "allocator.h"

/* What errno holds before each call: no error has this number. */
enum { UNTOUCHED = 7777 };

/* Writes the line of a call, and errno where the call changed it. */
static void __attribute__((format(printf, 2, 3))) answer(const char *call, const char *format, ...)
{
    va_list arguments;
    int changed = errno;
    printf("%s => ", call);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    if (changed != UNTOUCHED)
        printf(" errno %d", changed);
    printf("\n");
    errno = UNTOUCHED;
}

/* A call as text; errno is made ready for it. */
static const char *__attribute__((format(printf, 1, 2))) label(const char *format, ...)
{
    static char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *byte = text; *byte; byte++)
        if (*byte < ' ' || *byte > '~')
            *byte = '?';
    errno = UNTOUCHED;
    return text;
}
#endif
