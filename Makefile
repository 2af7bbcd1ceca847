# SPDX-License-Identifier: Apache-2.0
# One Makefile. Objects go to build/FLAVOUR/; FLAVOUR is release, asan or fuzz.

FLAVOUR ?= release
B := build/$(FLAVOUR)
PREFIX ?= /usr/local
DESTDIR ?=
UNITS ?= /etc/systemd/system
VERSION := 0.1.0

CC_release := gcc
CC_asan := gcc
CC_fuzz := clang
FLAGS_release := -O2 -g
FLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# The fuzzers' build accepts any checksum, so that mutated bytes get past it.
FLAGS_fuzz := -O1 -g -Wno-unknown-warning-option -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DFUZZ_ANY_CHECKSUM

PACKAGES := liburing fuse3 libcap-ng jansson libisal libxxhash libarchive openssl
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES)) -linih
COMPILER := $(CC_$(FLAVOUR))
# gcc takes a sentence that may be cut short for a mistake; clang knows no such warning.
WARN_gcc := -Wno-format-truncation
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
CFLAGS_ALL := -std=gnu11 $(WARN) $(WARN_$(COMPILER)) $(FLAGS_$(FLAVOUR)) -D_GNU_SOURCE -DHOLDFAST_VERSION='"$(VERSION)"' \
	-Iinclude $(PKG_CFLAGS) -MMD -MP $(CFLAGS)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $@)

MAINS := daemon/holdfastd.c daemon/holdfast.c
BLK_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard blk/*.c))
FS_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard fs/*.c))
DAEMON_OBJS := $(patsubst %.c,$(B)/%.o,$(filter-out $(MAINS),$(wildcard daemon/*.c)))
TEST_OBJS := $(patsubst %.c,$(B)/%.o,$(filter-out tests/hunt.c,$(wildcard tests/*.c)) $(wildcard tests/sim/*.c))
SIM_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/sim/*.c))
WORLD_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/sim/world*.c))
BENCHES := $(patsubst tests/bench/%.c,$(B)/bench/%,$(wildcard tests/bench/*.c))
FILES_MODEL_OBJS := $(patsubst %.c,$(B)/%.o,$(wildcard tests/files_model*.c) tests/files_operation.c tests/files_tree.c)
FS_RIG_OBJS := $(B)/tests/fs_rig.o $(B)/tests/memory_blocks.o
FUZZERS := $(patsubst tests/fuzz/%.c,build/fuzz/fuzz/%,$(wildcard tests/fuzz/*.c))

.PHONY: all test unit sim mutants asan fuzz fuzzers bench bench-resync e2e chaos install uninstall check style purity clean help
.DELETE_ON_ERROR:
.SECONDARY:

## Build holdfast and holdfastd
all: $(B)/holdfast $(B)/holdfastd

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(COMPILER) $(CFLAGS_ALL) -c -o $@ $<

# tests and fuzzers see private headers of what they test
$(B)/tests/%.o: CFLAGS_ALL += -Iblk -Ifs -Idaemon -Itests
$(B)/daemon/%.o: CFLAGS_ALL += -Idaemon
# the mounted directory stands on the filesystem's operations; check and df look into it
$(B)/daemon/mount.o $(B)/daemon/mount_%.o: CFLAGS_ALL += -Ifs
$(B)/daemon/checker.o $(B)/daemon/usage.o $(B)/daemon/cli_check.o: CFLAGS_ALL += -Ifs
$(B)/blk/%.o: CFLAGS_ALL += -Iblk
$(B)/fs/%.o: CFLAGS_ALL += -Ifs
# these read the engine's own files, so they must know its formats
$(B)/daemon/divergence.o $(B)/daemon/divergence_export.o $(B)/daemon/stopped_replica.o: CFLAGS_ALL += -Iblk
$(B)/daemon/extract.o $(B)/daemon/extract_tar.o $(B)/daemon/cli_extract.o: CFLAGS_ALL += -Iblk -Ifs
$(B)/daemon/cli_check.o $(B)/daemon/cli_df.o: CFLAGS_ALL += -Iblk

$(B)/holdfast: $(B)/daemon/holdfast.o $(DAEMON_OBJS) $(FS_OBJS) $(BLK_OBJS)
	$(call say,LINK)
	$(Q)$(COMPILER) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(B)/holdfastd: $(B)/daemon/holdfastd.o $(DAEMON_OBJS) $(FS_OBJS) $(BLK_OBJS)
	$(call say,LINK)
	$(Q)$(COMPILER) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(B)/tests/run: $(TEST_OBJS) $(DAEMON_OBJS) $(FS_OBJS) $(BLK_OBJS)
	$(call say,LINK)
	$(Q)$(COMPILER) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka

$(B)/tests/hunt: $(B)/tests/hunt.o $(SIM_OBJS) $(FILES_MODEL_OBJS) $(B)/daemon/check.o $(FS_OBJS) $(BLK_OBJS)
	$(call say,LINK)
	$(Q)$(COMPILER) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

$(B)/bench/%: $(B)/tests/bench/%.o $(DAEMON_OBJS) $(FS_OBJS) $(BLK_OBJS)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(COMPILER) $(CFLAGS_ALL) $(LDFLAGS) -o $@ $^ $(PKG_LIBS)

build/fuzz/fuzz/%: build/fuzz/tests/fuzz/%.o $(DAEMON_OBJS) $(FS_OBJS) $(BLK_OBJS) $(WORLD_OBJS) $(FS_RIG_OBJS)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)clang $(CFLAGS_ALL) -fsanitize=fuzzer,address,undefined -o $@ $^ $(PKG_LIBS)

## Run unit, crash and simulator tests and the purity check (T=pattern SEED=0x2a SEEDS=N)
test: purity unit

unit: $(B)/tests/run
	$(if $(SEED),SEED=$(SEED)) $(if $(SEEDS),SEEDS=$(SEEDS)) $< $(T)

## Play a swarm of clusters, one per seed (SEEDS=200 SEED=1 JOBS=1 KEEP_GOING=1)
sim: $(B)/tests/hunt
	$(Q)JOBS=$(JOBS) KEEP_GOING=$(KEEP_GOING) $< $(or $(SEED),1) $(or $(SEEDS),200)

## Break the code on purpose and see that a test notices (M=part-of-a-name JOBS=1)
mutants: $(B)/tests/run $(B)/tests/hunt
	$(Q)JOBS=$(JOBS) scripts/mutants $(M)

## The same tests under AddressSanitizer and UBSan
asan:
	$(Q)$(MAKE) --no-print-directory FLAVOUR=asan unit

## Run each fuzzer for a while (FUZZ_SECONDS=10)
fuzz:
	$(Q)$(MAKE) --no-print-directory FLAVOUR=fuzz fuzzers
	$(Q)scripts/fuzz $(or $(FUZZ_SECONDS),10)

fuzzers: $(FUZZERS)

## Print tables of speeds: blocks beside the raw disk, a directory beside ext4 (root, many minutes; BENCH_WHAT=)
bench: all $(BENCHES)
	$(Q)scripts/bench

## What a resync costs the primary's clients, how fast it is, how well its end is foretold (root, minutes)
bench-resync: all
	$(Q)tests/bench/resync.sh

## End-to-end tests with real processes (root)
e2e: all
	$(Q)scripts/e2e

## Kill, stop, cut and move roles below a filesystem, for a long time (root; SECONDS=600 SEED= NODES="2 3")
chaos: all
	$(Q)tests/e2e/test_chaos.sh $(or $(SECONDS),600)

## No system call and no clock in blk/ and fs/; arrows between folders go one way
purity: $(BLK_OBJS) $(FS_OBJS)
	$(Q)scripts/check-pure $(B)

## The README's map, SPDX lines, line lengths, file and function lengths
style:
	$(Q)scripts/check-style

## Everything, as CI runs it
check:
	$(Q)scripts/check

## Install to $(DESTDIR)$(PREFIX)
install: all
	install -D -m 755 $(B)/holdfast $(DESTDIR)$(PREFIX)/bin/holdfast
	install -D -m 755 $(B)/holdfastd $(DESTDIR)$(PREFIX)/sbin/holdfastd
	install -d $(DESTDIR)$(UNITS)
	sed 's|@PREFIX@|$(PREFIX)|' daemon/holdfast@.service >$(DESTDIR)$(UNITS)/holdfast@.service

## Remove what install put there
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/holdfast $(DESTDIR)$(PREFIX)/sbin/holdfastd $(DESTDIR)$(UNITS)/holdfast@.service

## Remove build/
clean:
	rm -rf build

## This list
help:
	@awk '/^## /{ text = substr($$0, 4); next } \
	      /^[a-z][a-z0-9-]*:/ && text != "" { split($$0, name, ":"); printf "  make %-13s %s\n", name[1], text; text = "" } \
	      !/^## /{ text = "" }' $(MAKEFILE_LIST)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
