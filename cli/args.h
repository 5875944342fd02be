/* args.h: the words behind a command. Options are taken out wherever they stand; "--" ends them. */
#pragma once
#include <stdbool.h>

struct args { int n; char **v; int options; };	/* the first @options words may be options (those before "--") */
struct args args_from(int n, char **v);
bool args_flag(struct args *a, const char *name, const char *letter);	/* "--follow", "-f" or NULL */
/* "--for X" or "--for=X"; NULL when it isn't there. *ret_bad is set when its value is missing. */
const char *args_value(struct args *a, const char *name, const char *letter, bool *ret_bad);
/* After all were taken: an option that nobody wanted, or NULL. */
const char *args_unknown(const struct args *a);
