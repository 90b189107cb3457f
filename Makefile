# SPDX-License-Identifier: GPL-2.0
# Builds a Linux 6.12 kernel with this KSM, shows it, tests it. Sources, builds
# and logs stay below $XDG_CACHE_HOME/ksm (~/.cache/ksm).

scripts := tools/testing/ksm
export KDIR SET ROUNDS ONLY MINUTES SEED KERNEL
# Every script has its own parallelism
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

help:
	@echo 'make kernel        build the kernel with our KSM'
	@echo 'make run           boot it in QEMU and watch it merge real programs'
	@echo 'make test          all tests (about half an hour on two processors)'
	@echo 'make test-debug    the tests of KSM under KASAN, lockdep, kmemleak, ...'
	@echo 'make test-kcsan    and under KCSAN, which finds data races'
	@echo 'make check         checkpatch, sparse, W=1 and kernel-doc on our files'
	@echo 'make coverage      lines and branches of KSM that the tests reach'
	@echo 'make fuzz          fuzz the index files in user space (SECONDS=60)'
	@echo 'make bench         measure ksmd, stock against ours (about 20 minutes)'
	@echo 'make storm         do everything to memory at random, for 10 minutes'
	@echo 'make stock         build the stock kernel from the same configuration'
	@echo 'make patch         write one patch for a pristine 6.12.y tree'
	@echo 'make install-tree KDIR=/path/to/linux-6.12.y'
	@echo '                   put our files into that tree'
	@echo 'make clean         remove builds, trees and logs'
	@echo
	@echo 'KDIR=/path/to/linux-6.12.y   build from that tree (it is copied), not'
	@echo '                             from the package linux-source-6.12'
	@echo 'SET="KSM_DEBUG=n ..."        options over those of Kconfig.fragment'
	@echo 'ROUNDS=5 ONLY="merge ..."    for make bench: how often, and what of'
	@echo '                             $(scripts)/bench.list'
	@echo 'SECONDS=600 ONLY="trees ..." for make fuzz: how long in all, and which'
	@echo 'MINUTES=2 SEED="1 2 3"       for make storm: how long for each seed; also'
	@echo '                             KERNEL=stock, debug or kcsan'
	@echo
	@echo 'One program in the virtual machine: $(scripts)/vm.sh -- COMMAND'

kernel:
	@$(scripts)/tree.sh ksm
	@$(scripts)/kernel.sh ksm

bench:
	@$(scripts)/bench.sh

coverage:
	@$(scripts)/coverage.sh

storm: $(if $(filter stock,$(KERNEL)),stock,kernel)
	@$(if $(filter debug kcsan,$(KERNEL)),$(scripts)/kernel.sh ksm $(KERNEL))
	@$(scripts)/storm.sh

stock:
	@$(scripts)/tree.sh stock
	@$(scripts)/kernel.sh stock

run: kernel
	@$(scripts)/run.sh ksm

test:
	@$(scripts)/test.sh

test-debug:
	@$(scripts)/test.sh debug

test-kcsan:
	@$(scripts)/test.sh kcsan

check:
	@$(scripts)/tree.sh ksm
	@$(scripts)/check.sh

fuzz:
	@$(scripts)/tree.sh ksm
	@$(scripts)/fuzz.sh $(or $(SECONDS),60) $(ONLY)

patch:
	@$(scripts)/patch.sh make

install-tree:
	@$(scripts)/patch.sh install "$(KDIR)"

clean:
	@$(scripts)/clean.sh

.PHONY: help kernel stock run test test-debug test-kcsan bench storm coverage check fuzz patch install-tree clean
