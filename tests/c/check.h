/* check.h: what the programs that look at one function after the other share. They use no stdio until something is wrong,
 * so that their own allocations are all that there are. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program, and says where, unless `condition` holds. */
#define CHECK(condition)                                                                                           \
    do {                                                                                                           \
        if (!(condition)) {                                                                                        \
            fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);              \
            exit(1);                                                                                               \
        }                                                                                                          \
    } while (0)

/* What errno holds before a call that must leave it alone: no error has this number. */
enum { UNTOUCHED = 7777 };

/* The call returns null and sets errno to `code`. */
#define FAILS(code, call)                                                                                          \
    do {                                                                                                           \
        errno = UNTOUCHED;                                                                                         \
        void *block_ = (call);                                                                                     \
        CHECK(block_ == NULL && #call);                                                                            \
        CHECK(errno == (code) && #call);                                                                           \
    } while (0)

/* The statement leaves errno alone. */
#define QUIETLY(...)                                                                                               \
    do {                                                                                                           \
        errno = UNTOUCHED;                                                                                         \
        __VA_ARGS__;                                                                                               \
        CHECK(errno == UNTOUCHED && #__VA_ARGS__);                                                                 \
    } while (0)

/* Sizes that compilers must not reason about. */
static volatile size_t zero = 0, most = SIZE_MAX, half = PTRDIFF_MAX;

#endif
