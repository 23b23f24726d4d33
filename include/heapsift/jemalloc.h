/* jemalloc.h: for programs that are written for <jemalloc/jemalloc.h>. Everything is in heapsift.h; this adds the macros
 * by which they tell which interface they have. Use it as
 *
 *     #include <heapsift/jemalloc.h>
 *
 * There is no prefix: jemalloc's functions have their plain names. */
#ifndef HEAPSIFT_JEMALLOC_H
#define HEAPSIFT_JEMALLOC_H

#include <heapsift/heapsift.h>

/* The interface is that of this version of jemalloc. */
#define JEMALLOC_VERSION "5.3.1-0-heapsift-" HEAPSIFT_VERSION
#define JEMALLOC_VERSION_MAJOR 5
#define JEMALLOC_VERSION_MINOR 3
#define JEMALLOC_VERSION_BUGFIX 1
#define JEMALLOC_VERSION_NREV 0
#define JEMALLOC_VERSION_GID "heapsift"

#endif
