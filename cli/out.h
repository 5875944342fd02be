/* out.h: answers on stdout, in the form that was asked for. JSON is the API's, nothing is invented here. */
#pragma once
#include "api.h"
#include "vmctl.h"

int out_list(struct ctl *c, json_t *items, const struct api_schema *s);		/* exit code */
int out_object(struct ctl *c, json_t *object, const struct api_schema *s);
/* What of an object can be a column: "status.state". */
json_t *out_at(json_t *object, const char *path);
/* A value as a person reads it; caller frees. @name: of the field; its ending says the unit. */
char *out_text(const struct ctl *c, const char *name, json_t *value);
void out_plain(const char *s, FILE *to);	/* text from elsewhere, without what a terminal obeys */
