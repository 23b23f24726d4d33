/* heapsift.h: the C and C++ interface of libheapsift, a memory allocator with a sampled heap profiler.
 *
 * The standard functions (malloc, free, posix_memalign, memalign, malloc_usable_size, ...) are declared where they always
 * are, in <stdlib.h> and <malloc.h>, both of which this header includes. Declared here is what those lack: C23's sized
 * frees, and the functions that jemalloc made known, with the same names, values and error numbers.
 *
 * A program gets the library by linking with it (`pkg-config --cflags --libs heapsift`), or without a rebuild by
 * LD_PRELOAD=libheapsift.so; one that is to run both ways can look functions up with dlsym(RTLD_DEFAULT, "mallctl").
 *
 * Options: see MALLOC_CONF in TUNING.md. */
#ifndef HEAPSIFT_H
#define HEAPSIFT_H

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define HEAPSIFT_VERSION_MAJOR 0
#define HEAPSIFT_VERSION_MINOR 1
#define HEAPSIFT_VERSION_PATCH 0
#define HEAPSIFT_VERSION "0.1.0"

#if defined(__cplusplus) && __cplusplus >= 201103L
#define HEAPSIFT_NOTHROW noexcept
#elif defined(__cplusplus)
#define HEAPSIFT_NOTHROW throw()
#elif defined(__GNUC__)
#define HEAPSIFT_NOTHROW __attribute__((nothrow))
#else
#define HEAPSIFT_NOTHROW
#endif

#ifdef __GNUC__
#define HEAPSIFT_MALLOC __attribute__((malloc))
#define HEAPSIFT_ALLOC_SIZE(argument) __attribute__((alloc_size(argument)))
#else
#define HEAPSIFT_MALLOC
#define HEAPSIFT_ALLOC_SIZE(argument)
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Frees that know the size (C23) ---- */

/* Frees what malloc, calloc or realloc gave for a request of `size` bytes. A null `ptr` is allowed. Keeps errno. */
void free_sized(void *ptr, size_t size) HEAPSIFT_NOTHROW;

/* Frees what aligned_alloc gave for this alignment and size. A null `ptr` is allowed. Keeps errno. */
void free_aligned_sized(void *ptr, size_t alignment, size_t size) HEAPSIFT_NOTHROW;

/* ---- Allocation with flags ----
 *
 * `flags` is 0 or an OR of the macros below. These functions return null (or 0) when there is no memory and leave errno
 * alone. What one of them allocated, free() and realloc() take too, and the other way round. */

/* Alignment of 2^la bytes. */
#define MALLOCX_LG_ALIGN(la) ((int)(la))
/* Alignment of `a` bytes, a power of two. */
#define MALLOCX_ALIGN(a) ((int)heapsift_lg((size_t)(a)))
/* The block reads as zero; for rallocx and xallocx: the bytes by which it grows. */
#define MALLOCX_ZERO ((int)0x40)
/* The thread cache that mallctl("tcache.create") gave as `tc`. */
#define MALLOCX_TCACHE(tc) ((int)((unsigned)((tc) + 2) << 8))
/* No thread cache. */
#define MALLOCX_TCACHE_NONE MALLOCX_TCACHE(-1)
/* The arena `a`; the thread's cache is not used, unless a cache is named as well. */
#define MALLOCX_ARENA(a) ((int)(((unsigned)(a) + 1) << 20))

/* log2 of a power of two; a constant where `bytes` is one. For MALLOCX_ALIGN. */
#ifdef __GNUC__
#define heapsift_lg(bytes) (__builtin_ctzl((unsigned long)(bytes)))
#else
static inline int heapsift_lg(size_t bytes)
{
    int lg = 0;
    while ((bytes >>= 1) != 0)
        lg++;
    return lg;
}
#endif

/* At least `size` bytes. */
void *mallocx(size_t size, int flags) HEAPSIFT_NOTHROW HEAPSIFT_MALLOC HEAPSIFT_ALLOC_SIZE(1);

/* Changes the size of a block to at least `size` bytes; the block may move. Null: the block is as it was. */
void *rallocx(void *ptr, size_t size, int flags) HEAPSIFT_NOTHROW HEAPSIFT_ALLOC_SIZE(2);

/* Changes the size of a block where it is, to at least `size` and if it can be to `size + extra` bytes. Returns its real
 * size, which is the old one when nothing could be done. */
size_t xallocx(void *ptr, size_t size, size_t extra, int flags) HEAPSIFT_NOTHROW;

/* The real size of a block, all of which may be used. */
size_t sallocx(const void *ptr, int flags) HEAPSIFT_NOTHROW;

/* Frees a block. */
void dallocx(void *ptr, int flags) HEAPSIFT_NOTHROW;

/* Frees a block of a known size: anything from the size that was asked for to the real one. `flags` names the alignment
 * that was asked for, if one was. */
void sdallocx(void *ptr, size_t size, int flags) HEAPSIFT_NOTHROW;

/* The real size that a block of mallocx(size, flags) would have; 0: no such block can be. */
size_t nallocx(size_t size, int flags) HEAPSIFT_NOTHROW;

/* ---- Control ----
 *
 * Values are read and written by name. `oldp` gets the value and *oldlenp must be its size; `newp` and `newlen` are the
 * value to set. Unused pointers are null. These return 0 or an error number, and leave errno alone:
 *   ENOENT   no such name, or an index out of range
 *   EINVAL   a size that is not the value's (what fits is copied all the same), or a value that can't be
 *   EPERM    a name that can't be read, or can't be written
 *   EAGAIN   no memory for what was asked
 *   EFAULT   what was asked failed
 * Statistics are those of the last time that "epoch" was written. */

/* The arena index that stands for all arenas, as in "arena.4096.purge". */
#define MALLCTL_ARENAS_ALL 4096
/* The arena index that stands for all arenas that have been destroyed. */
#define MALLCTL_ARENAS_DESTROYED 4097

int mallctl(const char *name, void *oldp, size_t *oldlenp, void *newp, size_t newlen) HEAPSIFT_NOTHROW;

/* Translates a name into numbers that mallctlbymib takes. *miblenp is the room in `mibp`, then how much of it is used. A
 * component that is an index is that index, so that a loop may put others in its place. */
int mallctlnametomib(const char *name, size_t *mibp, size_t *miblenp) HEAPSIFT_NOTHROW;

int mallctlbymib(const size_t *mib, size_t miblen, void *oldp, size_t *oldlenp, void *newp, size_t newlen)
    HEAPSIFT_NOTHROW;

/* Puts a label on what the calling thread allocates from now on, in place of an earlier one with that key: rows of blocks in
 * use in a profile have it. Keys are ASCII, both have 1 to 63 bytes, a thread at most 4 labels, a process 4095 different
 * texts. 0, or an error number: EINVAL (can't be a label), ENOSPC (too many), EAGAIN (the thread is ending). */
int heapsift_label_set(const char *key, const char *value) HEAPSIFT_NOTHROW;
/* Takes it away; that there is none is no error. */
int heapsift_label_unset(const char *key) HEAPSIFT_NOTHROW;

/* Prints statistics, piece by piece, to `write_cb(cbopaque, text)`; null: to malloc_message or standard error. `opts` is
 * null or letters: J for JSON, and g m d a b l x e h to leave parts out (general, merged, destroyed and single arenas,
 * bins, large classes, mutexes, extents, huge pages). */
void malloc_stats_print(void (*write_cb)(void *cbopaque, const char *text), void *cbopaque, const char *opts);

/* Prints all numbers of the allocator and the profiler as OpenMetrics text, piece by piece, to `write_cb(cbopaque, text)`;
 * null: to malloc_message or standard error. Served as application/openmetrics-text; version=1.0.0, it is what Prometheus
 * and others collect. */
void heapsift_metrics(void (*write_cb)(void *cbopaque, const char *text), void *cbopaque);

/* ---- Variables ---- */

/* Options that a program brings along, in the syntax of MALLOC_CONF, which is read after it and wins. Initialized where
 * it is defined: `const char *malloc_conf = "narenas:2";`. */
extern const char *malloc_conf;

/* The same, read last. */
extern const char *malloc_conf_2_conf_harder;

/* Where the library's messages go, if not to standard error. `cbopaque` is null. Must not allocate. */
extern void (*malloc_message)(void *cbopaque, const char *text);

/* ---- Extent hooks: an arena's own source of memory ----
 *
 * A null function stands for "not supported", save for `alloc`, which must be there. Where the result is bool, true means
 * that it did not work, and the memory stays as it was. `arena` is the arena's index. */

typedef struct extent_hooks_s extent_hooks_t;

/* Memory of `size` bytes aligned to `alignment`, at `new_addr` unless that is null; null: there is none. *zero and *commit
 * say what is wanted; they must be set to what the memory is. EXTENT_ALLOC_FLAG_PINNED, added to the address, says that
 * pages can't be given back one by one, as those of HugeTLB. */
#define EXTENT_ALLOC_FLAG_PINNED 1
typedef void *extent_alloc_t(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero,
                             bool *commit, unsigned arena);
/* Takes memory back; true: the arena keeps it. */
typedef bool extent_dalloc_t(extent_hooks_t *hooks, void *addr, size_t size, bool committed, unsigned arena);
/* Takes memory back when the arena is destroyed. */
typedef void extent_destroy_t(extent_hooks_t *hooks, void *addr, size_t size, bool committed, unsigned arena);
/* Gives `length` bytes at `offset` pages behind them, so that they can be used. */
typedef bool extent_commit_t(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length,
                             unsigned arena);
/* The opposite. */
typedef bool extent_decommit_t(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length,
                               unsigned arena);
/* Lets the system take pages back; what they hold is lost sooner or later (lazy), or now (forced: they read as zero). */
typedef bool extent_purge_t(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length,
                            unsigned arena);
/* Whether memory may be treated as two pieces from here on. */
typedef bool extent_split_t(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a, size_t size_b,
                            bool committed, unsigned arena);
/* Whether two neighbours may be treated as one from here on. */
typedef bool extent_merge_t(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b, size_t size_b,
                            bool committed, unsigned arena);

struct extent_hooks_s {
    extent_alloc_t *alloc;
    extent_dalloc_t *dalloc;
    extent_destroy_t *destroy;
    extent_commit_t *commit;
    extent_decommit_t *decommit;
    extent_purge_t *purge_lazy;
    extent_purge_t *purge_forced;
    extent_split_t *split;
    extent_merge_t *merge;
};

#ifdef __cplusplus
}
#endif

#endif
