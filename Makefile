# Croft. `make run` and `make check` are all a user needs; `make help` lists the rest.
SHELL := /bin/bash
SAN ?=
comma := ,
O := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))
PKGS := jansson libsystemd sqlite3 libmicrohttpd gnutls libseccomp smartcols

# The include path is the architecture: a folder can include only what it lists.
INC.hv-core/base := hv-core/base
INC.hv-core      := hv-core/base hv-core
INC.hv-core/shim := hv-core/base hv-core/shim
INC.storage      := hv-core/base storage
INC.net          := hv-core/base net
INC.daemon       := hv-core/base hv-core storage net daemon
INC.daemon/front := hv-core/base daemon/front
INC.cli          := hv-core/base cli
INC.tests/unit   := hv-core/base hv-core storage net daemon daemon/front hv-core/shim cli tests/unit
INC.tests/fuzz   := $(INC.tests/unit)

CC ?= gcc
WARN := -Wall -Wextra -Wshadow -Wvla -Wundef -Wstrict-prototypes -Wmissing-prototypes -Wimplicit-fallthrough=5 \
	-Wformat=2 -Wpointer-arith -Wwrite-strings -Wno-unused-parameter -Wno-missing-field-initializers $(WERROR)
OPT ?= $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN),-O2)
CFLAGS := -std=gnu17 -g $(OPT) -D_GNU_SOURCE -fPIE -fstack-protector-strong -fno-strict-aliasing $(WARN)
LDFLAGS := -pie -Wl,-z,relro,-z,now $(if $(SAN),-fsanitize=$(SAN))

src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$O/%.o,$(foreach d,$(1),$(call src,$d)))

BASE := $O/base.a
PROGRAMS := $O/croftd $O/croft-front $O/croft-vm $O/vmctl

.DEFAULT_GOAL := all
.PHONY: all check run stop bench fuzz lint clean help
all: $(PROGRAMS)

$O/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(addprefix -I,$(INC.$(patsubst %/,%,$(dir $<)))) -MMD -MP -c -o $@ $<

$(BASE): $(call obj,hv-core/base)
	@rm -f $@ && ar rcs $@ $^
$O/croftd: $(call obj,daemon hv-core storage net) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -ljansson -lsystemd -lsqlite3 -lcrypt -lgnutls -lpthread
$O/croft-front: $(call obj,daemon/front) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -lmicrohttpd -lgnutls -lsystemd -lseccomp -lpthread
$O/croft-vm: $(call obj,hv-core/shim) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -lseccomp
$O/vmctl: $(call obj,cli) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -ljansson -lsmartcols -lgnutls

# One test program per tests/unit/test_NAME.c; each links what it names in its LINK line:  // LINK: hv-core storage
$O/tests/unit/test_%: $O/tests/unit/test_%.o $O/tests/unit/t.o $(BASE)
	@$(MAKE) --no-print-directory -s $(BASE) $(foreach d,$(shell sed -n 's,^// LINK: ,,p' tests/unit/test_$*.c),$(call obj,$d))
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter-out %/main.o,$(foreach d,$(shell sed -n 's,^// LINK: ,,p' tests/unit/test_$*.c),$(call obj,$d))) $(BASE) \
		-ljansson -lsystemd -lsqlite3 -lcrypt -lmicrohttpd -lgnutls -lseccomp -lsmartcols -lpthread

clean:
	rm -rf build build-*
-include $(shell find $O -name '*.d' 2>/dev/null)
