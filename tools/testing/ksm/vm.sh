#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boot a kernel in QEMU and run one command in it, as root, on this machine's
# own file system (read-only by 9p, with a tmpfs on top that takes all writes).
#
#   vm.sh [options] -- COMMAND [ARGS...]
#
#   --kernel stock|ksm|FILE  which kernel: a built one by name, or a bzImage (ksm)
#   --timeout SECONDS        for everything, boot included (300)
#   --smp N                  processors, half in each of two NUMA nodes (2)
#   --mem MIB                memory in the two nodes together (2048); another
#                            256 MiB in node 1 can be taken offline and back
#   --swap MIB               size of the zram swap device (512); 0 for none
#   --append "ARGS"          more for the kernel's command line
#   --log FILE               keep the kernel's log there
#   --races FILE             of data races (KCSAN), only those matter in which a
#                            function that is listed there has the access that
#                            is not marked
#
# The command's output is this script's output and its exit status is this
# script's, unless the kernel did worse: 124 when the time ran out, 125 when the
# machine died before the command ended, 126 when the kernel log has a warning.
# The working directory is kept. KSM_ACCEL=kvm uses hardware virtualisation
# instead of emulation. Any number may run at once.

set -u
. "$(dirname "$0")/common.sh"

kernel=ksm timeout=300 smp=2 mem=2048 swap=512 append='' log='' races=''
while [ $# -gt 0 ]; do
	case $1 in
	--kernel) kernel=$2 ;;
	--timeout) timeout=$2 ;;
	--smp) smp=$2 ;;
	--mem) mem=$2 ;;
	--swap) swap=$2 ;;
	--append) append=$2 ;;
	--log) log=$2 ;;
	--races) races=$2 ;;
	--) shift; break ;;
	*) die "unknown option $1 (see the head of $0)" ;;
	esac
	shift 2
done
[ $# -gt 0 ] || die "no command given (see the head of $0)"
case $kernel in
stock | ksm) kernel=$cache/$kernel/build/arch/x86/boot/bzImage ;;
esac
[ -r "$kernel" ] || die "no kernel at $kernel: run 'make kernel' or 'make stock'"

tmp=$(mktemp -d) || exit 125
qemu=''
cleanup() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null
	rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 125' INT TERM HUP
kernel_log=${log:-$tmp/kernel.log}
mkdir -p "$(dirname "$kernel_log")"
: >"$kernel_log"

# An initramfs of busybox, the guest's init and the command to run
make_initramfs() {
	mkdir -p "$tmp/root"/{bin,dev,proc,host,rw,new}
	cp "$(command -v busybox)" "$tmp/root/bin/busybox"
	cp "$here/vm-init" "$tmp/root/init"
	chmod 755 "$tmp/root/init"
	{
		printf 'swap_mib=%d\n' "$swap"
		printf 'work_dir=%q\n' "$PWD"
	} >"$tmp/root/settings"
	{
		printf 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n'
		printf 'cd %q || cd /tmp\nexec' "$PWD"
		printf ' %q' "$@"
		printf '\n'
	} >"$tmp/root/command"
	(cd "$tmp/root" && find . | cpio -o -H newc --quiet) >"$tmp/initramfs"
}

# The rate of the guest's clock, which it may not measure: see tsc-khz.c
tsc_option() {
	local program=$cache/bin/tsc-khz
	[ "${KSM_ACCEL:-tcg}" != kvm ] && [ "$(uname -m)" = x86_64 ] || return 0
	if ! [ "$program" -nt "$here/tsc-khz.c" ]; then
		mkdir -p "$cache/bin"
		gcc -O2 -Wall -o "$tmp/tsc-khz" "$here/tsc-khz.c" || return 0
		mv "$tmp/tsc-khz" "$program"
	fi
	printf 'tsc_early_khz=%s' "$("$program")"
}

# For the emulator's sake, whose memory of translated code grows with each new
# address that a page of code is run at: without randomized addresses, and with
# pages cleared and copied by words, not bytes.  A page that a few thousand
# processes ran code from took seconds to clear else, when it was used again: the
# whole list of its translations is walked at every store.
boot() {
	local half=$((mem / 2)) split=$((smp / 2)) args
	args="console=ttyS0 rdinit=/init panic=-1 oops=panic kunit.enable=0"
	args="$args norandmaps tsc=reliable $(tsc_option) watchdog_thresh=30 memhp_default_state=online_movable"
	exec timeout "$timeout" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-accel "${KSM_ACCEL:-tcg,thread=multi}" -cpu max,erms=off,fsrm=off \
		-smp "$smp,sockets=2,cores=$split,threads=1" \
		-m "${mem}M,slots=2,maxmem=$((mem + 1024))M" \
		-object "memory-backend-ram,id=m0,size=${half}M" \
		-object "memory-backend-ram,id=m1,size=${half}M" \
		-numa "node,nodeid=0,cpus=0-$((split - 1)),memdev=m0" \
		-numa "node,nodeid=1,cpus=$split-$((smp - 1)),memdev=m1" \
		-object memory-backend-ram,id=m2,size=256M \
		-device pc-dimm,memdev=m2,node=1 \
		-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
		-chardev "file,id=log,path=$kernel_log" -serial chardev:log \
		-device virtio-serial -chardev "file,id=out,path=/dev/fd/3" \
		-device virtconsole,chardev=out \
		-kernel "$kernel" -initrd "$tmp/initramfs" -append "$args $append"
}

# Lines that mean that the kernel, or the machine it emulates, found a fault
faults() {
	grep -aE 'WARNING:|BUG:|BUG at|Oops|general protection|Kernel panic|locking correctness validator|suspected memory leak|suspicious RCU|circular locking|inconsistent lock|rcu.*(detected|self-detected) (expedited )?stall|blocked for more than|soft lockup|workqueue lockup|list_(add|del)[a-z_.]* corruption|[Cc]orrupted|KASAN|UBSAN|Bad page|Bad rss|unable to handle' \
		"$kernel_log" | if [ -n "$races" ]; then grep -v 'BUG: KCSAN:'; else cat; fi
	[ -z "$races" ] || awk -v list="$races" -f "$here/races.awk" "$kernel_log"
}

make_initramfs "$@"
mkfifo "$tmp/out"
cat "$tmp/out" &
reader=$!
boot </dev/null 2>"$tmp/qemu.err" 3>"$tmp/out" &
qemu=$!
wait "$qemu"
ended=$?
qemu=''
wait "$reader"

status=$(tr -d '\r' <"$kernel_log" | sed -n 's/^.*vm: exit status \([0-9]*\)$/\1/p')
if [ -z "$status" ]; then
	status=125
	cat "$tmp/qemu.err" >&2
	tail -n 20 "$kernel_log" >&2
	say "vm: the machine ended before the command did" >&2
fi
if [ "$ended" -eq 124 ]; then
	status=124
	say "vm: stopped after $timeout seconds" >&2
fi
faults >"$tmp/faults"
if [ -s "$tmp/faults" ]; then
	[ "$status" -eq 0 ] && status=126
	say "vm: the kernel log has warnings:" >&2
	head -n 40 "$tmp/faults" >&2
fi
if [ "$status" -ge 124 ] && [ -z "$log" ]; then
	mkdir -p "$logs"
	cp "$kernel_log" "$logs/vm-$$.log"
	log=$logs/vm-$$.log
fi
[ "$status" -lt 124 ] || say "vm: kernel log: $log" >&2
exit "$status"
