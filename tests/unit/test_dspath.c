// LINK: storage
#include "dspath.h"
#include "t.h"

static void same(const char *text, const char *datastore, const char *path)
{
	struct dspath p = { 0 };
	char out[DSPATH_TEXT];
	struct err e = { 0 };

	eq_int(dspath_parse(text, &p, &e), 0);
	eq_str(p.datastore, datastore);
	eq_str(p.path, path);
	dspath_format(&p, out);
	struct dspath again = { 0 };
	eq_int(dspath_parse(out, &again, &e), 0);
	eq_str(again.path, path);
}

TEST(good_paths)
{
	same("[local] demo/disk0.qcow2", "local", "demo/disk0.qcow2");
	same("[local]iso/a b.iso", "local", "iso/a b.iso");
	same("[local]", "local", "");
	same("[local] ", "local", "");
	same("[ds-1.x] ...", "ds-1.x", "...");
	same("[l] \xc3\xa4/\xe2\x82\xac", "l", "\xc3\xa4/\xe2\x82\xac");
	same("[l]  two blanks", "l", " two blanks");
	same("[l] -rf", "l", "-rf");
}

static void refused(const char *text, enum err_code code, const char *says)
{
	struct dspath p = { .path = "untouched" };
	struct err e = { 0 };

	ok(dspath_parse(text, &p, &e) < 0);
	eq_int(e.code, code);
	if (!strstr(e.msg, says))
		t_fail(__FILE__, __LINE__, "\"%s\": \"%s\" doesn't say \"%s\"", text, e.msg, says);
	eq_str(p.path, "untouched");
}

TEST(bad_paths)
{
	static const char *const escapes[] = {
		"[l] ..", "[l] ../x", "[l] a/..", "[l] a/../b", "[l] .", "[l] a/./b", NULL
	};

	for (size_t i = 0; escapes[i]; i++)
		refused(escapes[i], ERR_INVALID, "\"..\"");
	refused("[l] /etc/passwd", ERR_INVALID, "empty part");
	refused("[l] a//b", ERR_INVALID, "empty part");
	refused("[l] a/", ERR_INVALID, "empty part");
	refused("[l] a\nb", ERR_INVALID, "control");
	refused("[l] a\x7f", ERR_INVALID, "control");
	refused("[l] \xff", ERR_INVALID, "UTF-8");
	refused("[l] \xc0\xaf", ERR_INVALID, "UTF-8");
	refused("[l] .croft-datastore.json", ERR_NOT_FOUND, "belong");
	refused("[l] a/.croft-upload-1", ERR_NOT_FOUND, "belong");
	refused("", ERR_INVALID, "not a datastore path");
	refused("demo/disk", ERR_INVALID, "not a datastore path");
	refused("[local", ERR_INVALID, "not a datastore path");
	refused("[] x", ERR_INVALID, "not a datastore path");
	refused("[a/b] x", ERR_INVALID, "not a datastore path");
	refused("[..] x", ERR_INVALID, "not a datastore path");
	refused("[0123456789012345678901234567890123456789012345678901234567890123456789] x", ERR_INVALID, "not a datastore");
}

TEST(lengths)
{
	char text[2000] = "[l] ";
	struct dspath p;

	memset(text + 4, 'a', 255);
	eq_int(dspath_parse(text, &p, NULL), 0);
	text[4 + 255] = 'a';
	refused(text, ERR_INVALID, "at most 255");
	for (size_t i = 4; i < 4 + 1024; i++)
		text[i] = (i - 4) % 128 == 127 ? '/' : 'a';
	text[4 + 1023] = 'a';
	text[4 + 1024] = '\0';
	eq_int(dspath_parse(text, &p, NULL), 0);
	eq_int(strlen(p.path), 1024);
	strcpy(text + 4 + 1024, "b");
	refused(text, ERR_INVALID, "at most 1024");
}

TEST(parts)
{
	char out[DSPATH_MAX + 1];

	dspath_folder("a/b/c", out);
	eq_str(out, "a/b");
	dspath_folder("c", out);
	eq_str(out, "");
	eq_str(dspath_name("a/b/c"), "c");
	eq_str(dspath_name("c"), "c");
	eq_int(dspath_beside("a/b", "x", out), 0);
	eq_str(out, "a/x");
	eq_int(dspath_beside("b", "x", out), 0);
	eq_str(out, "x");
	eq_int(dspath_check("", false, NULL), -22);
	eq_int(dspath_check("", true, NULL), 0);
}

T_MAIN
