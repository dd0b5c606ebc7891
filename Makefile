# sequin_proxy: `make demo` shows the main job, `make test` runs everything; both need no set-up.
PG_CONFIG ?= pg_config
PG_VERSION := $(shell $(PG_CONFIG) --version 2>/dev/null)

EXTENSION = sequin_proxy
MODULE_big = sequin_proxy
DATA = sequin_proxy--1.0.sql

CORE_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c) $(wildcard src/providers/*.c)))
OBJS = sequin_proxy.o $(CORE_OBJS)

REGRESS = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
# PGXS hides symbols from PostgreSQL 16 on; before it we do, so that no name of ours meets one of the server's.
PG_CPPFLAGS = -Isrc $(if $(findstring PostgreSQL 15,$(PG_VERSION)),'-DPGDLLEXPORT=__attribute__((visibility("default")))')
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -fvisibility=hidden
SHLIB_LINK = -lmicrohttpd -lcurl -lunistring -lcrypto
EXTRA_CLEAN = build


PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

# Without PostgreSQL's headers only the targets that install them work.
ifneq ($(PGXS),)
ifeq ($(filter demo test bench consistency mutations soak check-asan check-faults deps,$(MAKECMDGOALS)),)
include $(PGXS)
endif
endif

$(OBJS): $(wildcard src/*.h) $(wildcard src/providers/*.h)

.PHONY: demo test bench consistency mutations deps check-unit check-regress check-e2e check-clients check-asan check-faults prefix fuzz soak
deps:
	@tools/deps.sh

demo: deps
	@tools/as_user.sh tools/demo.sh

test: deps
	@tools/as_user.sh tools/test.sh

# About ten minutes; QUICK=1: about four; BENCH="--rows 10000000": options of bench/run.py.  Results also go to build/results.
bench:
	@tools/deps.sh bench
	@ulimit -n 65536 2>/dev/null; tools/as_user.sh tools/bench.sh

# OPS=100000 SEED=1 KILL=1
consistency: deps
	@OPS=$(OPS) SEED=$(SEED) KILL=$(KILL) tools/as_user.sh tools/check_consistency.sh

mutations: deps
	@tools/as_user.sh tools/check_mutations.sh

prefix: all
	@tools/prefix.sh $(CURDIR)/build/prefix

check-unit:
	@tools/check_unit.sh

check-regress: all
	@tools/check_regress.sh

fuzz:
	@tools/fuzz.sh $(SECONDS)

# the end-to-end tests under AddressSanitizer and UBSan
check-asan: deps
	@tools/as_user.sh tools/check_asan.sh

soak: deps
	@tools/as_user.sh tools/soak.sh

check-e2e: all
	@tools/check_e2e.sh

# every action at every fault point
check-faults: deps
	@SEQUIN_FAULTS=all tools/as_user.sh tools/check_faults.sh
