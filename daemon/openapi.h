/* openapi.h: the OpenAPI 3.1 document, written from the routes and the fields. */
#pragma once
#include <stddef.h>

const char *openapi_text(size_t *n);	/* made at first use, kept */
