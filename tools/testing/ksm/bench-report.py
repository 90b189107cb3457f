#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Turn the numbers of bench.sh into a table and two drawings.

Usage: bench-report.py RESULTS.csv. The drawings are saved beside that file. A
value is the median of all rounds; the spread is the least and the greatest
ratio within a round. The last lines say which targets hold. The exit status is
1 only if the drawings could not be made.
"""
import csv
import subprocess
import sys
from pathlib import Path
from statistics import median

# Two kernels that do the same differ by so much in one measurement or another
NOISE = 1.05


class AtLeast:
    """Stock must take so many times what ours takes."""
    def __init__(self, ratio):
        self.ratio, self.text = ratio, f"{ratio:g}x"

    def holds(self, stock, ours):
        return stock is not None and stock / ours >= self.ratio


class NotAbove:
    """Ours must not take more than stock."""
    text = "not above"

    def holds(self, stock, ours):
        return stock is not None and ours <= stock * NOISE


class AtMost:
    """Ours must not take more than that."""
    def __init__(self, most):
        self.most, self.text = most, f"<= {most:g}"

    def holds(self, _stock, ours):
        return ours <= self.most


VISIT, PAGE, BYTES = "ns/page/pass", "ns/page", "bytes/page"
SIZES = (64, 128, 256, 512, 1024, 2048)

# title, workload, metric, unit, target if there is one
ROWS = (
    ("unique, settled, 256 MiB", "unique-256", "settled", VISIT, AtLeast(25)),
    ("unique, settled, 1 GiB", "unique-1024", "settled", VISIT, AtLeast(25)),
    ("unique, settled, smart_scan=0", "unique-no-smart-scan", "settled", VISIT, AtLeast(8)),
    ("unique, first pass, 256 MiB", "unique-256", "first", PAGE, AtLeast(1.5)),
    ("unique, first pass, 1 GiB", "unique-1024", "first", PAGE, AtLeast(1.5)),
    ("unique, second pass, 256 MiB", "unique-256", "second", PAGE, AtLeast(8)),
    ("unique, second pass, 1 GiB", "unique-1024", "second", PAGE, AtLeast(8)),
    ("rewritten", "rewritten", "settled", VISIT, AtLeast(10)),
    ("rewritten, smart_scan=0", "rewritten-no-smart-scan", "settled", VISIT, None),
    ("4 x the same 128 MiB, until merged", "merge", "merge", PAGE, AtLeast(2.5)),
    ("all but 8 bytes equal, 3 passes", "almost", "from_new", PAGE, AtLeast(8)),
    ("mix as of guests, settled", "guests", "settled", VISIT, AtLeast(15)),
    ("merged, settled", "merged", "settled", VISIT, AtLeast(3)),
    ("run=2 (wall)", "unmerge", "unmerge", PAGE, AtLeast(2)),
    ("run=2 (CPU)", "unmerge", "unmerge_cpu", PAGE, None),
    ("bookkeeping, unique 1 GiB", "unique-1024", "memory_gone", BYTES, AtMost(16)),
    ("1 page in 64 MiB, settled", "sparse-64g", "settled", VISIT, NotAbove()),
    ("1 page in 64 MiB: bookkeeping", "sparse-64g", "memory_gone", BYTES, NotAbove()),
    ("1 page in 16, settled", "sparse-1g", "settled", VISIT, NotAbove()),
    ("1 page in 16: bookkeeping", "sparse-1g", "memory_gone", BYTES, NotAbove()),
    ("mmap_lock held, 99 of 100", "locks", "mmap_lock_p99", "ns", AtMost(200e3)),
    ("mmap_lock held, longest", "locks", "mmap_lock_max", "ns", None),
    ("scan mutex held, longest (run=2)", "locks", "scan_mutex_max", "ns", None),
    ("exit, 512 MiB merged (wall)", "use", "exit", "ns", NotAbove()),
    ("exit, 512 MiB merged (CPU)", "use", "exit_cpu", "ns", None),
    ("fork, 512 MiB merged (wall)", "use", "fork", "ns", NotAbove()),
    ("fork, 512 MiB merged (CPU)", "use", "fork_cpu", "ns", None),
    ("write fault, merged page (wall)", "use", "write_fault", "ns", NotAbove()),
    ("write fault, merged page (CPU)", "use", "write_fault_cpu", "ns", None),
    ("lost beside merging: own cache", "beside-merging", "lost_cache", "ns/merged", None),
    ("lost beside merging: shared cache", "beside-merging", "lost_shared", "ns/merged", None),
    ("lost beside merging: memory", "beside-merging", "lost_memory", "ns/merged", None),
    ("lost beside settled: own cache", "beside-settled", "lost_cache", VISIT, None),
    ("lost beside settled: shared cache", "beside-settled", "lost_shared", VISIT, None),
    ("lost beside settled: memory", "beside-settled", "lost_memory", VISIT, None),
)


class Results:
    def __init__(self, path):
        self.values = {}        # (kernel, workload, metric): {round: value}
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                key = row["kernel"], row["workload"], row["metric"]
                rounds = self.values.setdefault(key, {})
                rounds[int(row["round"])] = float(row["value"])

    def rounds(self, *key):
        return self.values.get(key, {})

    def median(self, *key):
        rounds = self.rounds(*key)
        return median(rounds.values()) if rounds else None


def number(value):
    if value is None:
        return "-"
    for unit, size in (("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / (1e6 if unit == 'M' else 1e3):.3g}{unit}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


class Line:
    """One line of the table."""
    def __init__(self, title, metric, unit, target, stock, ours):
        """stock, ours: {round: value}"""
        self.title, self.metric, self.unit, self.target = title, metric, unit, target
        self.stock = median(stock.values()) if stock else None
        self.ours = median(ours.values())
        self.ratios = [stock[r] / ours[r] for r in sorted(stock.keys() & ours)
                       if ours[r] > 0 and stock[r] > 0]
        self.holds = target and target.holds(self.stock, self.ours)

    def ratio(self):
        if not self.stock or self.ours <= 0 or self.stock <= 0:
            return "-"
        return f"{self.stock / self.ours:.2f}"

    def spread(self):
        if not self.ratios:
            return "-"
        return f"{min(self.ratios):.2f}..{max(self.ratios):.2f}"

    def cells(self):
        verdict = "-" if not self.target else "yes" if self.holds else "NO"
        return (self.title, self.unit, number(self.stock), number(self.ours),
                self.ratio(), self.spread(),
                self.target.text if self.target else "-", verdict)


def growth(results):
    """Cost per page in the largest size over that in the smallest."""
    def of(kernel):
        small = results.rounds(kernel, f"unique-{SIZES[0]}", "settled")
        large = results.rounds(kernel, f"unique-{SIZES[-1]}", "settled")
        return {r: large[r] / small[r] for r in small.keys() & large}
    if not of("ksm"):
        return []
    return [Line("unique, settled, 2 GiB over 64 MiB", "growth", "ratio", AtMost(1.3),
                 of("stock"), of("ksm"))]


def lines_of(results):
    lines = []
    for title, workload, metric, unit, target in ROWS:
        ours = results.rounds("ksm", workload, metric)
        if ours:
            stock = results.rounds("stock", workload, metric)
            lines.append(Line(title, metric, unit, target, stock, ours))
    return lines + growth(results)


def print_differences(results):
    """Costs can be compared only if both kernels merged the same."""
    for kernel, workload, metric in sorted(results.values):
        if kernel != "ksm" or metric != "merged":
            continue
        stock = results.median("stock", workload, metric)
        ours = results.median("ksm", workload, metric)
        before = results.median("ksm", workload, "merged_before")
        if stock is not None and abs(stock - ours) > stock / 100:
            print(f"note: {workload}: {ours:.0f} pages are merged, on stock {stock:.0f}")
        if before is not None and before != ours:
            print(f"note: {workload}: not settled, {before:.0f} to {ours:.0f} pages merged")


def print_holds(results, lock):
    """How often a lock was held how long, by powers of two."""
    counts = []
    for limit in (1 << i for i in range(12)):
        counts.append((limit, results.median("ksm", "locks", f"{lock}_us_{limit}") or 0))
    if not any(count for _, count in counts):
        return
    print(f"{lock}, how often it was held how long:")
    for i, (limit, count) in enumerate(counts):
        text = f"> {limit // 2}" if i == len(counts) - 1 else f"<= {limit}"
        print(f"  {text:>7} us {count:9.0f}")


def print_table(lines):
    table = [("workload", "unit", "stock", "ours", "ratio", "spread", "target", "holds")]
    table += [line.cells() for line in lines]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) if i < 2 or i > 5 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))).rstrip())


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def quoted(text):
    return '"' + text.strip().replace('"', "'") + '"'


STYLE = """
set terminal svg size {size} noenhanced font "sans,13" background "white"
set output "{out}"
set grid ytics lt 1 lc rgb "#dddddd"
set border 3
set tics nomirror
set key top {key} samplen 2
"""
COLOURS = {"stock": "#8c6bb1", "ksm": "#238b45"}
TITLES = {"stock": "stock", "ksm": "ours"}


def draw_costs(lines, out):
    """Bars, for all that is counted in time for each page."""
    lines = [line for line in lines if line.unit in (VISIT, PAGE)
             and not line.metric.startswith("lost") and line.stock]
    if not lines:
        return False
    data = []
    for line in lines:
        data.append(f"{quoted(line.title)} {line.stock} {line.ours}")
    gnuplot(STYLE.format(size="1000,640", out=out, key="right") + f"""
set title "What ksmd's work costs, for each page (and pass)"
set ylabel "ns"
set logscale y
set yrange [1:*]
set style data histograms
set style histogram clustered gap 1
set style fill solid
set boxwidth 0.9
set xtics rotate by 40 right
set bmargin 13
set lmargin 16
$data << EOD
{chr(10).join(data)}
EOD
plot $data using 2:xtic(1) title "stock" lc rgb "{COLOURS['stock']}", \
     $data using 3 title "ours" lc rgb "{COLOURS['ksm']}"
""")
    return True


def draw_growth(results, out):
    """Lines: cost per page against the size of the memory."""
    blocks, plots = [], []
    for kernel in COLOURS:
        points = [(size, results.median(kernel, f"unique-{size}", "settled"))
                  for size in SIZES]
        points = [f"{size} {cost}" for size, cost in points if cost]
        if len(points) < 2:
            return False
        blocks.append(f"${kernel} << EOD\n" + "\n".join(points) + "\nEOD\n")
        plots.append(f'${kernel} title "{TITLES[kernel]}" with linespoints '
                     f'lw 2 pt 7 ps 0.6 lc rgb "{COLOURS[kernel]}"')
    gnuplot(STYLE.format(size="760,480", out=out, key="left") + f"""
set title "Unique memory that keeps still: CPU time of ksmd for each page and pass"
set xlabel "MiB"
set ylabel "ns"
set logscale x 2
set logscale y
set yrange [1:*]
{"".join(blocks)}
plot {", ".join(plots)}
""")
    return True


def main():
    path = Path(sys.argv[1])
    results = Results(path)
    lines = lines_of(results)
    print_table(lines)
    print_differences(results)
    for lock in ("mmap_lock", "scan_mutex"):
        print_holds(results, lock)
    drawings = [path.with_name("costs.svg"), path.with_name("growth.svg")]
    if draw_costs(lines, drawings[0]):
        print(f"drawing: {drawings[0]}")
    if draw_growth(results, drawings[1]):
        print(f"drawing: {drawings[1]}")
    judged = [line for line in lines if line.target]
    missed = [line for line in judged if not line.holds]
    print(f"{len(judged) - len(missed)} of {len(judged)} targets hold")
    for line in missed:
        print(f"missed: {line.title}: target {line.target.text}, "
              f"stock {number(line.stock)}, ours {number(line.ours)} {line.unit}")


main()
