/* Errors: what they carry, and that they carry nothing that could hurt a terminal or a JSON document. */
#include <errno.h>
#include "err.h"
#include "t.h"
#include "text.h"

TEST(err_fail_fills_and_returns_errno)
{
	struct err e = { .hint = "old", .task = 7 };

	errno = 42;
	eq_int(fail(&e, ERR_NOT_FOUND, "there is no VM \"%s\"", "web"), -ENOENT);
	eq_int(errno, 42);
	eq_int(e.code, ERR_NOT_FOUND);
	eq_str(e.msg, "there is no VM \"web\"");
	eq_str(e.hint, "");
	eq_int(e.task, 0);
	eq_int(fail(NULL, ERR_BUSY, "x"), -EBUSY);
}

TEST(err_may_quote_itself)
{
	struct err e = { 0 };

	fail_at(&e, "/a", "inner");
	eq_int(fail_at(&e, e.pointer, "outer: %s", e.msg), -EINVAL);
	eq_str(e.msg, "outer: inner");
	eq_str(e.pointer, "/a");
	eq_int(err_hint(&e, "try %d", 2), -EINVAL);
	eq_str(e.hint, "try 2");
}

TEST(err_errno_chooses_the_code)
{
	struct err e = { 0 };

	eq_int(fail_errno(&e, -ENOENT, "open %s", "x"), -ENOENT);
	eq_str(e.msg, "open x: No such file or directory");
	eq_int(e.code, ERR_NOT_FOUND);
	eq_int(fail_errno(&e, ENOSPC, "write"), -ENOSPC);
	eq_int(e.code, ERR_NO_SPACE);
	eq_int(fail_errno(&e, ELOOP, "open"), -EIO);
	eq_int(e.code, ERR_INTERNAL);
	eq_int(fail_errno(&e, 99999, "odd"), -EIO);
	eq_str(e.msg, "odd: error 99999");
}

TEST(err_text_is_tidy)
{
	struct err e = { 0 };
	char big[1000];

	fail(&e, ERR_INVALID, "a\nb\x1b[31m\x7f \xc2\x9b \xff\xc3\xa4");
	eq_str(e.msg, "a?b?[31m? ? \xc3\xa4");
	for (size_t i = 0; i + 1 < sizeof(big); i += 2)
		memcpy(big + i, "\xc3\xa4", 2);
	big[998] = '\0';
	fail_at(&e, big, "%s", big);
	ok(text_is_utf8(e.msg, strlen(e.msg)) && strlen(e.msg) == 350);
	ok(text_is_utf8(e.pointer, strlen(e.pointer)) && strlen(e.pointer) == 94);
}

TEST(err_table_is_whole)
{
	for (int c = ERR_NONE + 1; c < ERR_NCODES; c++) {
		ok(err_http(c) >= 400 && err_http(c) < 600);
		ok(*err_title(c));
		eq_int(err_from_slug(err_slug(c)), c);
		for (int d = c + 1; d < ERR_NCODES; d++)
			ok(fail(NULL, c, "x") != fail(NULL, d, "x"));
	}
	eq_int(err_from_slug("unheard-of"), ERR_INTERNAL);
	eq_int(err_from_slug(NULL), ERR_INTERNAL);
	eq_int(err_http(ERR_NCODES + 5), 500);
}
T_MAIN
