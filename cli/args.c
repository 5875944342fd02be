#include <string.h>
#include "args.h"
#include "mem.h"

struct args args_from(int n, char **v)
{
	struct args a = { n, v, n };

	for (int i = 0; i < n; i++) {
		if (strcmp(v[i], "--"))
			continue;
		memmove(v + i, v + i + 1, (size_t)(n - i - 1) * sizeof(*v));
		a.n--;
		a.options = i;
		break;
	}
	return a;
}

static void take(struct args *a, int i)
{
	memmove(a->v + i, a->v + i + 1, (size_t)(a->n - i - 1) * sizeof(*a->v));
	a->n--;
	if (i < a->options)
		a->options--;
}

bool args_flag(struct args *a, const char *name, const char *letter)
{
	bool found = false;

	for (int i = 0; i < a->options; )
		if (!strcmp(a->v[i], name) || (letter && !strcmp(a->v[i], letter))) {
			found = true;
			take(a, i);
		} else {
			i++;
		}
	return found;
}

const char *args_value(struct args *a, const char *name, const char *letter, bool *ret_bad)
{
	const char *value = NULL;
	size_t len = strlen(name);

	for (int i = 0; i < a->options; ) {
		char *word = a->v[i];

		if (!strncmp(word, name, len) && word[len] == '=') {
			value = word + len + 1;
			take(a, i);
		} else if (!strcmp(word, name) || (letter && !strcmp(word, letter))) {
			take(a, i);
			if (i >= a->n) {
				*ret_bad = true;
				return NULL;
			}
			value = a->v[i];
			take(a, i);
		} else {
			i++;
		}
	}
	return value;
}

void args_to_words(struct args *a, bool (*is_flag)(void *arg, const char *name), void *arg)
{
	for (int i = 0; i < a->options; i++) {
		char *name = a->v[i] + 2, *equals;

		if (strncmp(a->v[i], "--", 2) || !*name)
			continue;
		equals = strchr(name, '=');
		for (char *p = name; *p && p != equals; p++)
			if (*p == '-')
				*p = '_';
		if (equals) {
			a->v[i] = name;
		} else if (is_flag(arg, name)) {
			a->v[i] = xasprintf("%s=yes", name);
		} else if (i + 1 < a->n) {
			a->v[i] = xasprintf("%s=%s", name, a->v[i + 1]);
			take(a, i + 1);
		}
	}
}

const char *args_unknown(const struct args *a)
{
	for (int i = 0; i < a->options; i++)
		if (a->v[i][0] == '-' && a->v[i][1])
			return a->v[i];
	return NULL;
}
