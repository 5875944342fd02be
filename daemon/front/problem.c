#include "problem.h"
#include "jw.h"

void problem(enum err_code code, unsigned status, const char *detail, struct buf *out)
{
	struct jw w = JW(out);

	jw_obj(&w, NULL);
	jw_strf(&w, "type", "/problems/%s", err_slug(code));
	jw_str(&w, "title", err_title(code));
	jw_u64(&w, "status", status ? status : (unsigned)err_http(code));
	jw_str(&w, "detail", detail);
	jw_end(&w);
}
