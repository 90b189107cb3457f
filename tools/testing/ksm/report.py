#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Turn what test.sh collected in a directory into one KTAP report.

For each group there is NAME.out (what the machine printed) and NAME.status
(how vm.sh ended). Groups whose name ends in -stock are the measure for those of
the same name ending in -ours: what passes on the one must pass on the other.
The last line is "N passed, N failed"; the exit status is 1 on any failure.
Usage: report.py DIRECTORY LISTS [mismatches | ksm]. "mismatches" names the programs
that did worse than on the stock kernel and nothing else; "ksm" leaves out those.
"""
import re
import sys
from pathlib import Path

PASS, FAIL, SKIP = "ok", "not ok", "skip"
VM_TROUBLE = {124: "out of time", 125: "the machine died",
              126: "the kernel log has warnings"}
KTAP = re.compile(r"^(\s*)(not ok|ok) \d+(?: -)? ?([^#]*)(?:# *(\w+))?")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Result:
    def __init__(self, name, verdict, note=""):
        self.name, self.verdict, self.note = name, verdict, note


def verdict_of(word, directive):
    if directive and directive.upper() in ("SKIP", "XFAIL"):
        return SKIP
    return PASS if word == "ok" else FAIL


def parse_ktap(lines):
    """Results without subtests of their own; parents repeat their verdict."""
    results, pending = [], []       # pending: (indent, verdict) not yet closed
    for line in lines:
        match = KTAP.match(line)
        if not match:
            continue
        indent = len(match[1])
        verdict = verdict_of(match[2], match[4])
        children = [v for i, v in pending if i > indent]
        pending = [(i, v) for i, v in pending if i <= indent]
        pending.append((indent, verdict))
        if not children or (verdict == FAIL and FAIL not in children):
            results.append(Result(match[3].strip(), verdict))
    return results


def parse_khugepaged(lines):
    results = []
    for line in lines:
        line = COLOUR.sub("", line)
        if line.startswith("Run test: "):
            results.append(Result(line[10:].strip(), PASS))
        elif not results:
            continue
        elif re.search(r"\.\.\. ?(Fail|fail)", line):
            results[-1].verdict = FAIL
        elif re.search(r"\.\.\. ?(Skip|skip)", line) and results[-1].verdict == PASS:
            results[-1].verdict = SKIP
    return results


def parse_uffd(lines):
    results = []
    for line in lines:
        match = re.match(r"Testing (.*?)\.\.\. ?(\w+)?", line)
        if match:
            verdict = {"done": PASS, "skipped": SKIP}.get(match[2], FAIL)
            results.append(Result(match[1], verdict))
    return results


def parse_program(name, lines, status, seconds):
    if name.startswith("khugepaged"):
        results = parse_khugepaged(lines)
    elif name.startswith("uffd-unit"):
        results = parse_uffd(lines)
    else:
        results = parse_ktap(lines)
    if status not in (0, 4) and not any(r.verdict == FAIL for r in results):
        why = "out of time" if status in (124, 137) else f"status {status}"
        results.append(Result("end", FAIL, f"{why} after {seconds} s"))
    elif not results:
        results.append(Result("end", SKIP if status == 4 else PASS))
    return results


def parse_programs(text):
    """{program: results} of a run of guest-tests.sh, and the raw output of each."""
    programs, raw = {}, {}
    begin = re.compile(r"^@begin (\S+)\n(.*?)(?=^@begin |^@done|\Z)", re.M | re.S)
    for match in begin.finditer(text):
        name, body = match[1], match[2]
        end = re.search(r"^@end \S+ (\d+) (\d+)$", body, re.M)
        lines = body[:end.start()].splitlines() if end else body.splitlines()
        raw[name] = lines
        if end:
            programs[name] = parse_program(name, lines, int(end[1]), int(end[2]))
        else:
            programs[name] = [Result("end", FAIL, "the machine ended first")]
    return programs, raw


def lines_about(lines, name):
    """What a kselftest_harness program printed of one test, or all its lines."""
    begin = [i for i, line in enumerate(lines)
             if re.fullmatch(rf"# +RUN +{re.escape(name)} \.\.\.", line)]
    if not begin:
        return lines
    end = next((i for i, line in enumerate(lines) if i > begin[0] and
                line.startswith(("not ok ", "ok "))), len(lines) - 1)
    return lines[begin[0]:end + 1]


class Report:
    def __init__(self, directory):
        self.dir, self.counts, self.number = directory, {PASS: 0, FAIL: 0, SKIP: 0}, 0

    def text(self, name):
        path = self.dir / name
        return path.read_text(errors="replace") if path.exists() else ""

    def emit(self, group, result, detail=()):
        self.number += 1
        self.counts[result.verdict] += 1
        word = "not ok" if result.verdict == FAIL else "ok"
        note = f" # {result.note}" if result.note else ""
        if result.verdict == SKIP:
            note = f" # SKIP {result.note}"
        print(f"{word} {self.number} {group}: {result.name}{note}")
        if result.verdict == FAIL:
            for line in list(detail)[-40:]:
                print(f"  | {line[:160]}")

    def machine(self, group):
        """The kernel's own verdict on a run."""
        status = int(self.text(f"{group}.status").strip() or 125)
        if status in VM_TROUBLE:
            self.emit(group, Result("kernel log", FAIL, VM_TROUBLE[status]),
                      self.text(f"{group}.err").splitlines())
        else:
            self.emit(group, Result("kernel log", PASS))

    def script(self, group, wanted):
        """A script that prints KTAP of its own."""
        lines = self.text(f"{group}.out").splitlines()
        results = parse_ktap(lines)
        for result in results:
            until = next((i for i, line in enumerate(lines)
                          if line.lstrip().startswith("not ok ")
                          and line.endswith(result.name)), len(lines))
            result.name = result.name.removeprefix(f"{group}: ")
            self.emit(group, result, lines[:until + 1])
        if len(results) < wanted:
            self.emit(group, Result("end", FAIL, "not all of it ran"), lines)

    def kunit(self, group, suites):
        lines = self.text(f"{group}.out").splitlines()
        seen = set()
        for suite in suites:
            mark = [i for i, line in enumerate(lines) if line == f"@suite {suite}"]
            if not mark:
                continue
            seen.add(suite)
            rest = lines[mark[0] + 1:]
            end = next((i for i, line in enumerate(rest)
                        if line.startswith("@suite ")), len(rest))
            for result in parse_ktap(rest[:end]):
                self.emit(f"{group}: {suite}", result, rest[:end])
        for suite in suites:
            if suite not in seen:
                self.emit(group, Result(suite, FAIL, "the suite did not run"))
        if not suites:
            self.emit(group, Result("suites", FAIL, "there are none"))

    def programs(self, group, wanted):
        programs, raw = parse_programs(self.text(f"{group}.out"))
        for name in wanted:
            for result in programs.get(name, [Result("end", FAIL, "did not run")]):
                self.emit(f"{group}: {name}", result,
                          lines_about(raw.get(name, []), result.name))

    def with_retries(self, group):
        """Results of ours, each the best of its runs. Some of the kernel's tests
        lose races of their own (migration does, on any kernel), so what differs
        from stock gets more attempts; what is broken fails in all of them."""
        ours, raw = parse_programs(self.text(f"{group}-ours.out"))
        again, _ = parse_programs(self.text(f"{group}-again.out"))
        for attempt, results in again.items():
            mine = ours.get(attempt.split("+")[0], [])
            for i, (old, new) in enumerate(zip(mine, results)):
                if old.verdict != PASS and new.verdict == PASS:
                    mine[i] = Result(new.name, PASS, "passed when run again")
        return ours, raw

    def mismatches(self, group, wanted):
        """Programs with a test that passes on stock and not here."""
        stock, _ = parse_programs(self.text(f"{group}-stock.out"))
        ours, _ = parse_programs(self.text(f"{group}-ours.out"))
        for name in wanted:
            for theirs, got in zip(stock.get(name, ()), ours.get(name, ())):
                if theirs.verdict == PASS and got.verdict != PASS:
                    yield name
                    break

    def compare(self, group, wanted):
        """Test by test: what passes on stock passes here."""
        stock, _ = parse_programs(self.text(f"{group}-stock.out"))
        ours, raw = self.with_retries(group)
        for name in wanted:
            if name not in stock:
                self.emit(group, Result(name, FAIL, "did not run on stock"))
                continue
            mine = ours.get(name, [])
            wanted_here = stock[name]
            if unfinished(wanted_here) and unfinished(mine):
                # Time was up on both: how many skips were printed until then
                # is a matter of luck, but not what had passed
                n = len(mine) - 1
                wanted_here = wanted_here[:n] + [
                    r for r in wanted_here[n:-1] if r.verdict != SKIP]
            for i, theirs in enumerate(wanted_here):
                got = mine[i] if i < len(mine) else Result("", FAIL, "no result")
                self.emit(f"{group}: {name}", self.judge(theirs, got),
                          raw.get(name, ()))

    @staticmethod
    def judge(theirs, got):
        if theirs.verdict == PASS and got.verdict != PASS:
            return Result(theirs.name, FAIL, f"passes on stock; here {got.verdict} {got.note}")
        if theirs.verdict == FAIL and got.verdict == FAIL:
            return Result(theirs.name, SKIP, "fails on the stock kernel as well")
        return Result(got.name or theirs.name, got.verdict, got.note)


def unfinished(results):
    return bool(results) and results[-1].name == "end" and \
        results[-1].verdict == FAIL


def names(path):
    return [line.split()[0] for line in Path(path).read_text().splitlines()
            if line.strip() and not line.startswith("#")]


def main():
    directory, lists = Path(sys.argv[1]), Path(sys.argv[2])
    report = Report(directory)
    if sys.argv[3:] == ["mismatches"]:
        print(*report.mismatches("mm", names(lists / "mm-tests.list")), sep="\n")
        return
    print("KTAP version 1")
    for line in report.text("check.out").splitlines():
        match = re.match(r"(ok|not ok) (.*)", line)
        if match:
            report.emit("check", Result(match[2], match[1]))
        else:
            print(line)
    if sys.argv[3:] != ["ksm"]:
        report.script("fuzz", 4)
        report.script("storm", 3 * 6)
    report.machine("kunit")
    report.kunit("kunit", report.text("suites").split())
    for group in ("ours", "kernel"):
        report.machine(group)
    report.programs("ours", names(directory / "ours.list"))
    report.programs("kernel", names(lists / "ksm-tests.list"))
    if sys.argv[3:] != ["ksm"]:
        report.machine("mm-ours")
        if report.text("mm-again.status"):
            report.machine("mm-again")
        report.compare("mm", names(lists / "mm-tests.list"))
    print(f"1..{report.number}")
    if report.counts[SKIP]:
        print(f"# {report.counts[SKIP]} more were skipped, the reason is beside each")
    print(f"{report.counts[PASS]} passed, {report.counts[FAIL]} failed")
    sys.exit(1 if report.counts[FAIL] else 0)


main()
