/* mem.h: allocation that aborts when memory is out (sizes that a client chooses are bounded before), and
 * ownership by scope. */
#pragma once
#include <stddef.h>
#include <stdlib.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t n, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull, nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull, nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));
void *xmemdup(const void *p, size_t n) __attribute__((malloc, returns_nonnull));

#define xnew(type)	((struct type *)xcalloc(1, sizeof(struct type)))
#define COUNT(a)	(sizeof(a) / sizeof((a)[0]))
#define CONTAINER(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

/* TAKE hands ownership on: the variable is NULL afterwards. */
#define TAKE(p)		({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })
#define TAKE_FD(fd)	({ int taken_ = (fd); (fd) = -1; taken_; })

static inline void free_at(void *p) { free(*(void **)p); }
void close_at(int *fd);				/* close, keeping errno; nothing for -1 */
#define AUTO_FREE	__attribute__((cleanup(free_at)))
#define AUTO_CLOSE	__attribute__((cleanup(close_at)))

/* DEFINE_AUTO(vm) defines vm_at() from vm_free(), so that AUTO(vm) v = ... frees at the end of the scope. */
#define DEFINE_AUTO(type) static inline void type##_at(struct type **p) { if (*p) type##_free(*p); }
#define AUTO(type)	__attribute__((cleanup(type##_at))) struct type *
