# Croft. `make run` and `make check` are all a user needs; `make help` lists the rest.
SHELL := /bin/bash
SAN ?=
comma := ,
O := build$(if $(CROSS),-$(CROSS))$(if $(SAN),-$(subst $(comma),-,$(SAN)))
VERSION := $(patsubst (%),%,$(word 2,$(file <packaging/debian/changelog)))

# The include path is the architecture: a folder can include only what it lists.
INC.hv-core/base := hv-core/base
INC.hv-core      := hv-core/base hv-core
INC.hv-core/shim := hv-core/base hv-core/shim
INC.storage      := hv-core/base storage
INC.net          := hv-core/base net
INC.daemon       := hv-core/base hv-core storage net daemon $O
INC.daemon/front := hv-core/base daemon/front $O
INC.cli          := hv-core/base cli $O
INC.tests/unit   := hv-core/base hv-core storage net daemon daemon/front hv-core/shim cli tests/unit $O
INC.tests/fuzz   := $(INC.tests/unit)

# CROSS=arm64 builds, on a machine of another kind and into build-arm64, what runs on ARM. Everything but the compiler is
# in a folder of its own (packaging/sysroot): nothing for arm64 is installed here, and nothing for arm64 is run. A vmctl
# that can be run here, in NATIVE, prints its man page and completion.
ifneq ($(CROSS),)
TRIPLET := $(patsubst arm64,aarch64,$(patsubst amd64,x86_64,$(CROSS)))-linux-gnu
SYSROOT ?= build/sysroot-$(CROSS)
CC := $(TRIPLET)-gcc --sysroot=$(SYSROOT)
AR := $(TRIPLET)-ar
NATIVE ?= build
$(SYSROOT)/key: packaging/sysroot packaging/guest/fetch packaging/install-deps
	@packaging/sysroot $(CROSS) $(SYSROOT)
.PHONY: $(NATIVE)/vmctl
$(NATIVE)/vmctl:
	@$(MAKE) --no-print-directory CROSS= O=$(NATIVE) $@
endif
NATIVE ?= $O

CC ?= gcc
WARN := -Wall -Wextra -Wshadow -Wvla -Wundef -Wstrict-prototypes -Wmissing-prototypes -Wimplicit-fallthrough$(if $(findstring clang,$(CC)),,=5) \
	-Wformat=2 -Wpointer-arith -Wwrite-strings -Wno-unused-parameter -Wno-missing-field-initializers $(WERROR)
OPT ?= $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN),-O2)
CFLAGS := -std=gnu17 -g $(OPT) -D_GNU_SOURCE -fPIE -fstack-protector-strong -fno-strict-aliasing $(WARN)
LDFLAGS := -pie -Wl,-z,relro,-z,now $(if $(SAN),-fsanitize=$(SAN))

src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$O/%.o,$(foreach d,$(1),$(call src,$d)))

BASE := $O/base.a
PROGRAMS := $O/croftd $O/croft-front $O/croft-vm $O/vmctl

.DEFAULT_GOAL := all
.PHONY: all check run stop fuzz lint clean help FORCE
all: $(PROGRAMS) $O/web.bundle

BEFORE := $O/version.h $(if $(CROSS),$(SYSROOT)/key)
$O/%.o: %.c | $(BEFORE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(addprefix -I,$(INC.$(patsubst %/,%,$(dir $<)))) -MMD -MP -c -o $@ $<

$O/version.h: FORCE
	@mkdir -p $(@D)
	@echo '#define CROFT_VERSION "$(VERSION)"' | cmp -s - $@ || echo '#define CROFT_VERSION "$(VERSION)"' >$@
FORCE:
# croftd and croft-front are one build: each refuses the other when this differs.
$O/build_id.h: $O/version.h $(wildcard hv-core/base/*.[ch] daemon/*.[ch] daemon/front/*.[ch])
	@mkdir -p $(@D)
	@printf '#define BUILD_ID "%s"\n' "$$(cat $^ | sha256sum | cut -c1-16)" >$@
$O/daemon/fronts.o $O/daemon/front/main.o $O/tests/front/fake.o: $O/build_id.h

$(BASE): $(call obj,hv-core/base)
	@rm -f $@ && $(AR) rcs $@ $^
$O/croftd: $(call obj,daemon hv-core storage net) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -ljansson -lsystemd -lsqlite3 -lcrypt -lgnutls -lpthread
$O/croft-front: $(call obj,daemon/front) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -lmicrohttpd -lgnutls -lsystemd -lseccomp -lpthread
$O/croft-vm: $(call obj,hv-core/shim) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -lseccomp
$O/vmctl: $(call obj,cli) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -ljansson -lsmartcols -lgnutls

# ---- tests: each tests/unit/test_NAME.c and tests/fuzz/fuzz_NAME.c names what it links:  // LINK: hv-core storage ----
LIBS.tests := -ljansson -lsystemd -lsqlite3 -lcrypt -lmicrohttpd -lgnutls -lseccomp -lsmartcols -lpthread
linked = $(filter-out %/main.o,$(foreach d,$(shell sed -n 's,^// LINK: ,,p' $(1)),$(call obj,$d)))
named = $(patsubst %.c,$O/%,$(wildcard $(1)))
TESTS := $(call named,tests/unit/test_*.c)
FUZZ := $(call named,tests/fuzz/fuzz_*.c)

.SECONDEXPANSION:
.SECONDARY:
$O/tests/unit/test_%: $O/tests/unit/test_%.o $O/tests/unit/t.o $$(call linked,tests/unit/test_$$*.c) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS.tests)
# With FUZZER set (see fuzz) it searches; else it is a program that tries the seeds once.
$O/tests/fuzz/fuzz_%: $O/tests/fuzz/fuzz_%.o $(if $(FUZZER),,$O/tests/fuzz/replay.o) $$(call linked,tests/fuzz/fuzz_$$*.c) $(BASE)
	$(CC) $(LDFLAGS) $(FUZZER) -o $@ $^ $(LIBS.tests)
.PHONY: tests
tests: all $(TESTS) $(FUZZ)

# ---- what users call ----
JOBS := -j$(shell nproc)
HOME_DIR := ./run
GUEST := build/guest
run:			## install what is needed, build, run croftd with the demo guest: make run ARGS="--listen 0.0.0.0:8443"
	@packaging/install-deps run
	@$(MAKE) --no-print-directory -s $(JOBS) all guest
	@exec $O/croftd --home $(HOME_DIR) --demo $(GUEST) $(ARGS)
stop:			## shut this home's VMs down and end croftd
	@$O/croftd --home $(HOME_DIR) $(ARGS) --stop
check:			## build with warnings as errors, run all tests: make check ONLY="unit api/test_vm" SAN=address,undefined
	@packaging/install-deps check
	@$(MAKE) --no-print-directory -s $(JOBS) WERROR=-Werror tests test-images $(NODE_MODULES)
	@O=$O tests/run $(ONLY)
soak:			## kill croftd, fronts and croft-vms at COUNT random instants under a mixed load, then replay all of a disk's ends; CROFT_SEED=N
	@packaging/install-deps check
	@$(MAKE) --no-print-directory -s $(JOBS) tests test-images
	@O=$O tests/fault/soak $(or $(COUNT),1000)
clean-root:		## both commands of the README on a fresh Debian 12 (as root; tests/clean-root/run tells more)
	@tests/clean-root/run
golden-accept:		## write the expected outputs of the tests anew; read the diff before you commit it
	@$(MAKE) --no-print-directory -s $(JOBS) tests
	@$O/croftd --openapi | /usr/bin/python3 -m json.tool --indent 1 >cli/openapi.json
	@GOLDEN_ACCEPT=1 O=$O tests/run $(or $(ONLY),unit api)
	@git diff --stat tests cli/openapi.json
lint:			## the rules of HACKING.md that a machine can check
	@tests/lint
fuzz:			## search with each fuzz target for SECONDS seconds: make fuzz SECONDS=600 ONLY="door text"
	@packaging/install-deps check
	@$(MAKE) --no-print-directory -s -j2 O=build-fuzz SAN=fuzzer-no-link,address,undefined CC=clang FUZZER=-fsanitize=fuzzer \
		$(addprefix fuzz-,$(or $(ONLY),$(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))))
SECONDS := 60
fuzz-%: $O/tests/fuzz/fuzz_%
	@mkdir -p $O/corpus/$*
	@$< -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix=$O/corpus/$*- \
		$O/corpus/$* tests/fuzz/seeds/$* >$O/fuzz-$*.log 2>&1 || { tail -n 40 $O/fuzz-$*.log; exit 1; }
	@echo "fuzz $*: $$(sed -n 's/^stat::number_of_executed_units: *//p' $O/fuzz-$*.log) runs in $(SECONDS) s, nothing found"
PREFIX := /usr
USR = $(DESTDIR)$(PREFIX)
HOST := packaging/host
install: all $(NATIVE)/vmctl	## put all that an installed host has into DESTDIR: programs, units, accounts, man pages
	@install -d $(addprefix $(USR)/,bin sbin libexec/croft lib/sysusers.d lib/tmpfiles.d share/man/man1 share/man/man8 \
		share/bash-completion/completions) $(DESTDIR)/lib/systemd/system $(DESTDIR)/etc/default
	@install $O/croftd $O/croft-front $O/croft-vm $(USR)/libexec/croft/
	@install -m 644 $O/web.bundle $(USR)/libexec/croft/
	@install $O/vmctl $(USR)/bin/
	@ln -sf ../libexec/croft/croftd $(USR)/sbin/croftd
	@install -m 644 $(HOST)/croftd.service $(HOST)/croft-guests.service $(DESTDIR)/lib/systemd/system/
	@install -m 644 $(HOST)/sysusers.conf $(USR)/lib/sysusers.d/croft.conf
	@install -m 644 $(HOST)/tmpfiles.conf $(USR)/lib/tmpfiles.d/croft.conf
	@install -m 644 $(HOST)/default $(DESTDIR)/etc/default/croft
	@install -m 644 $(HOST)/croftd.8 $(USR)/share/man/man8/
	@$(NATIVE)/vmctl __man >$(USR)/share/man/man1/vmctl.1
	@$(NATIVE)/vmctl completion bash >$(USR)/share/bash-completion/completions/vmctl
deb:			## the Debian package, in build/deb: make deb ARCH=arm64 VERSION=0.2.0~test
	@packaging/install-deps deb $(ARCH)
	@packaging/deb $(or $(ARCH),$(shell dpkg --print-architecture)) $(VERSION) build/deb
help:			## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18
clean:			## remove everything that was built
	rm -rf build build-*

# ---- the demo guest (Debian's arm64 kernel and busybox), Debian's installer, a UEFI disk and CD for the tests ----
.PHONY: guest demo-installer test-images golden-accept soak clean-root install deb
guest: $(GUEST)/initrd.gz		## the demo guest's kernel and initramfs, in build/guest
demo-installer: all $(GUEST)/installer/initrd.gz	## add a VM that runs Debian's own installer to the croftd of make run
	@CROFT_HOME=$(HOME_DIR) packaging/guest/add-installer $O/vmctl $(GUEST)/installer
$(GUEST)/initrd.gz: packaging/guest/build packaging/guest/fetch $(shell find packaging/guest/root -type f)
	@echo "making the demo guest from Debian's arm64 packages (about 60 MB are fetched)"
	@packaging/guest/build $(GUEST)
$(GUEST)/installer/initrd.gz: packaging/guest/installer packaging/guest/fetch
	@echo "fetching Debian's installer for arm64 (about 130 MB)"
	@packaging/guest/installer $(GUEST)/installer $(GUEST)/apt

NODE_MODULES := $(patsubst %/package-lock.json,%/node_modules/.package-lock.json,$(wildcard tests/*/package-lock.json))
$(NODE_MODULES): %/node_modules/.package-lock.json: %/package-lock.json
	@npm ci --silent --ignore-scripts --no-audit --no-fund --prefix $*
	@touch $@
test-images: $(GUEST)/uefi.qcow2 $(GUEST)/agent.gz
$(GUEST)/agent.gz: packaging/guest/agent packaging/guest/fetch $(GUEST)/initrd.gz
	@packaging/guest/agent $(GUEST)
$(GUEST)/uefi.qcow2: packaging/guest/uefi-image $(GUEST)/initrd.gz
	@packaging/guest/uefi-image $(GUEST)

# --- croftd for tests/fault: one that dies or fails where it is told to, and believes what it is told of clocks and pids
FAULTY := daemon/task daemon/fault hv-core/base/world
$O/faults/%.o: %.c | $(BEFORE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(addprefix -I,$(INC.daemon)) -DCROFT_FAULTS -MMD -MP -c -o $@ $<
$O/faults/croftd: $(FAULTY:%=$O/faults/%.o) $(filter-out $(FAULTY:%=$O/%.o),$(call obj,daemon hv-core storage net)) $(BASE)
	$(CC) $(LDFLAGS) -o $@ $^ -ljansson -lsystemd -lsqlite3 -lcrypt -lgnutls -lpthread
# and a disk that fails where it is told to, and one that is written down
FAULT_LIBS := $(patsubst tests/%.c,$O/tests/%.so,$(wildcard tests/fault/*.c))
$(FAULT_LIBS): $O/%.so: %.c | $(BEFORE)
	@mkdir -p $(@D)
	$(CC) -std=gnu17 -O2 -g -D_GNU_SOURCE -fPIC -shared $(WARN) -o $@ $< -ldl
tests: $O/faults/croftd $(FAULT_LIBS)
# --- end of croftd for tests/fault

# --- web bundle
# The web client as one file, which croftd hands to croft-front. (The two include build_id.h from $O.)
HOSTCC ?= cc
INC.tests/front := $(INC.tests/unit)
INC.tests/unit += tests/front
$(patsubst %.c,$O/%,$(wildcard tests/unit/test_front_*.c)): | $O/croft-front $O/bundle
$O/bundle: web/bundle.c daemon/front/bundle.h hv-core/base/err.h
	@mkdir -p $(@D)
	$(HOSTCC) -std=gnu17 -O2 -g -D_GNU_SOURCE $(WARN) -Ihv-core/base -Idaemon/front -o $@ $< -lz -lgnutls
$O/web.bundle: $O/bundle $(shell find web -type f)
	$< web $@
# --- end of web bundle

# --- vmctl's table of the API
# cli/openapi.json is what `croftd --openapi` prints; from it comes what vmctl knows of the API.
$O/gen-api: cli/gen/api_table.c
	@mkdir -p $(@D)
	$(HOSTCC) -std=gnu17 -O2 -g -D_GNU_SOURCE $(WARN) -o $@ $< -ljansson
$O/api_table.h: $O/gen-api cli/openapi.json
	$< cli/openapi.json >$@.new && mv $@.new $@
$O/cli/api.o: $O/api_table.h
# --- end of vmctl's table

# ---- check-arm: the package on an ARM host with KVM, which QEMU emulates; LAB=native: on this machine, which is one ----
.PHONY: check-arm lab-host lab-debs
check-arm:		## install the ARM package on an emulated ARM host with KVM, test it there: make check-arm ONLY=lab/guest
	@packaging/install-deps check-arm
	@$(MAKE) --no-print-directory -s $(JOBS) lab-debs $(if $(filter native,$(LAB)),,lab-host) tests/browser/node_modules/.package-lock.json
	@O=$O LAB=$(LAB) tests/run $(or $(ONLY),lab)
lab-host: $(GUEST)/initrd.gz
	@tests/lab/build build/lab $(GUEST)
# This tree's package, and the one of a version after it. (They are builds of their own, whatever this make was told.)
lab-debs:
	@env -u MAKEFLAGS packaging/deb arm64 $(VERSION) build/deb >/dev/null
	@tests/lab/next build/next/tree
	@env -u MAKEFLAGS build/next/tree/packaging/deb arm64 $(VERSION)+next $(CURDIR)/build/next >/dev/null
# ---- end of check-arm ----

# ---- bench ----
# What it measures and how: tests/bench/bench. Release build.
.PHONY: bench
bench:			## measure speed and memory, about ten minutes: lines "name value unit" (make -s bench 2>/dev/null)
	@packaging/install-deps check >&2
	@$(MAKE) --no-print-directory -s $(JOBS) all $(BENCHES) >&2
	@O=$O tests/bench/bench
INC.tests/bench := hv-core/base cli tests/bench
BENCH := $O/tests/bench/talk.o $O/cli/conn.o $(BASE)
BENCHES := $(addprefix $O/tests/bench/,load power fan bare)
$(BENCHES): %: %.o $(BENCH)
	$(CC) $(LDFLAGS) -o $@ $^ -lgnutls -ljansson -lsystemd -lpthread
tests: $(BENCHES)
# ---- end of bench ----

-include $(shell find $O -name '*.d' -type f 2>/dev/null)
