/* args.h: the words behind a command. Options are taken out wherever they stand; "--" ends them. */
#pragma once
#include <stdbool.h>

struct args { int n; char **v; int options; };	/* the first @options words may be options (those before "--") */
struct args args_from(int n, char **v);
bool args_flag(struct args *a, const char *name, const char *letter);	/* "--follow", "-f" or NULL */
/* "--for X" or "--for=X"; NULL when it isn't there. *ret_bad is set when its value is missing. */
const char *args_value(struct args *a, const char *name, const char *letter, bool *ret_bad);
/* What is left of options, as words: "--memory 1GiB" and "--memory=1GiB" become "memory=1GiB"; one that @is_flag(arg,
 * name) says to be a switch becomes "name=yes". The words live until the program ends. */
void args_to_words(struct args *a, bool (*is_flag)(void *arg, const char *name), void *arg);
/* After all were taken: an option that nobody wanted, or NULL. */
const char *args_unknown(const struct args *a);
