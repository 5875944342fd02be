/* t.h: the unit tests' own little runner. A test program lists its scenarios with TEST(name) { ... } and ends with
 * T_MAIN. Prints "ok NAME" / "not ok NAME: why" lines, and exits with 1 if any failed. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct t_case { const char *name; void (*fn)(void); struct t_case *next; };
void t_add(struct t_case *c);
int t_main(int argc, char **argv);		/* arguments select tests by substring */
void t_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void t_skip(const char *why);			/* marks the running test as skipped; return after it */
void t_eq_str(const char *file, int line, const char *got, const char *want);
void t_eq_int(const char *file, int line, const char *expr, long long got, long long want);

#define TEST(id) \
	static void id(void); \
	static struct t_case id##_case = { #id, id, NULL }; \
	__attribute__((constructor)) static void id##_add(void) { t_add(&id##_case); } \
	static void id(void)
#define T_MAIN int main(int argc, char **argv) { return t_main(argc, argv); }
#define ok(cond)	do { if (!(cond)) t_fail(__FILE__, __LINE__, "%s", #cond); } while (0)
#define eq_str(got, want)	t_eq_str(__FILE__, __LINE__, got, want)
#define eq_int(got, want)	t_eq_int(__FILE__, __LINE__, #got, (long long)(got), (long long)(want))
