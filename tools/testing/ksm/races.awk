# SPDX-License-Identifier: GPL-2.0
#
# awk -v list=FILE -f races.awk LOG: the titles of those data races in a kernel's
# log (KCSAN) that are the fault of a function listed in FILE.
#
# Of the two accesses that race, one that is marked, atomic say, is as it should
# be: it is the other's function that must be in the list. In a report that
# cannot be read in full, any that the title names.

function name(word) {
	sub(/[+.].*/, "", word)
	return word
}

function done() {
	if (title != "" && (bad || (parts < 2 && named)))
		print title
	title = ""
}

BEGIN {
	while ((getline line <list) > 0)
		ours[line]
}

{ sub(/\r$/, "") }

/BUG: KCSAN:/ {
	done()
	title = $0
	bad = named = parts = top = 0
	for (i = 1; i <= NF; i++)
		named = named || name($i) in ours
	next
}

title == "" { next }

/race at unknown origin/ { parts++ }

# "write (reordered) to 0x... of 8 bytes by task 7 on cpu 0:", then the stack
/ (read|write|read-write|assert [a-z ]*)( \([a-z, ]*\))? to 0x[0-9a-f]* of / {
	top = !/\([a-z, ]*marked[a-z, ]*\) to 0x/
	parts += !top
	next
}

# Another processor's line may have come in between
top && $NF ~ /^[A-Za-z_][A-Za-z0-9_.]*\+0x[0-9a-f]+\/0x[0-9a-f]+$/ {
	bad = bad || name($NF) in ours
	parts++
	top = 0
}

/Reported by Kernel Concurrency Sanitizer/ { done() }

END { done() }
