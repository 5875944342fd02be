/* cputype.h: ARM cores by name. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* "cortex-a72" for a MIDR_EL1 value, or NULL for one that isn't in the table. Implementer and part decide. */
const char *cputype_name(uint32_t midr);
/* Whether the kernel runs in EL2 itself on such a core (Armv8.1 and later), unless it is told otherwise. */
bool cputype_has_vhe(uint32_t midr);
/* A little core: what stands beside it in a host with several kinds is faster, whatever their frequencies say. */
bool cputype_is_small(const char *name);
/* Physical address bits of a CPU model that QEMU 7.2 emulates ("cortex-a72" -> 44); 0: it doesn't. */
unsigned cputype_tcg_bits(const char *model);
/* Those models, comma and blank between them, for messages. */
extern const char cputype_tcg_list[];
