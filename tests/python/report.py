"""Checks what malloc_stats_print wrote. Standard input: the output of c/report.c. Arguments: json or text, and the
part of the program that was run. With a third one, a file with a report of jemalloc's in the same form, every key or
heading of which has to be there too, but for those in LEFT_OUT. Exits 0 if all is well, else says what is not."""

import json
import re
import sys

LOCK = "num_ops num_wait num_spin_acq num_owner_switch total_wait_time max_wait_time max_num_thds".split()
KEYS = {
    "": "version config system opt prof arenas stats stats.arenas",
    "config": "cache_oblivious debug fill lazy_lock malloc_conf opt_safety_checks prof prof_libgcc prof_libunwind"
    " prof_frameptr stats utrace xmalloc",
    "system": "thp_mode",
    "prof": "thread_active_init active gdump interval lg_sample",
    "arenas": "narenas dirty_decay_ms muzzy_decay_ms quantum page hugepage tcache_max nbins nhbins bin nlextents lextent",
    "arenas.bin[]": "size nregs slab_size nshards",
    "arenas.lextent[]": "size",
    "stats": "allocated active metadata metadata_edata metadata_rtree metadata_thp resident mapped retained pinned"
    " zero_reallocs background_thread mutexes",
    "stats.background_thread": "num_threads num_runs run_interval",
    "stats.mutexes": "background_thread max_per_bg_thd ctl prof prof_thds_data prof_dump prof_recent_alloc"
    " prof_recent_dump prof_stats",
}
ARENA_KEYS = {
    "": "nthreads uptime_ns dss dirty_decay_ms muzzy_decay_ms pactive pdirty pmuzzy dirty_npurge dirty_nmadvise"
    " dirty_purged muzzy_npurge muzzy_nmadvise muzzy_purged small large mapped retained pinned base internal"
    " metadata_edata metadata_rtree metadata_thp tcache_bytes tcache_stashed_bytes resident abandoned_vm extent_avail"
    " mutexes bins lextents extents hpa_shard",
    "small": "allocated nmalloc ndalloc nrequests nfills nflushes",
    "large": "allocated nmalloc ndalloc nrequests nfills nflushes",
    "mutexes": "large extent_avail extents_dirty extents_muzzy extents_retained extents_pinned decay_dirty decay_muzzy"
    " base tcache_list hpa_shard hpa_shard_grow hpa_sec",
    "bins[]": "nmalloc ndalloc curregs nrequests nfills nflushes nreslabs curslabs nonfull_slabs mutex",
    "lextents[]": "curlextents",
    "extents[]": "ndirty nmuzzy nretained npinned dirty_bytes muzzy_bytes retained_bytes pinned_bytes",
}
# Options that jemalloc itself no longer has; and, in the form for people, the table of its huge page allocator, in the
# place of which one line says that there is none.
LEFT_OUT = {
    "opt.hpa_sec_bytes_after_flush",
    "opt.hpa_sec_batch_fill_extra",
    *"Dehugifies Hugeifies Purges npageslabs nactive ndirty nretained".split(),
    "In empty slabs",
    "In full slabs",
    "Purge passes",
    "size ind npageslabs_huge nactive_huge ndirty_huge npageslabs_nonhuge nactive_nonhuge ndirty_nonhuge"
    " nretained_nonhuge",
}
# What is told of samples, of all arenas together.
SAMPLES = "prof_live_requested prof_live_count prof_accum_requested prof_accum_count".split()
PAGE = 4096

faults = []


def check(condition, *what):
    if not condition:
        faults.append(" ".join(map(str, what)))


def at(value, path):
    """The values at a path; `[]` stands for each element of an array."""
    values = [value]
    for step in filter(None, path.replace("[]", ".[]").split(".")):
        values = [e for v in values for e in v] if step == "[]" else [v[step] for v in values]
    return values


def check_keys(where, value, wanted):
    for path, names in wanted.items():
        for found in at(value, path):
            for name in names.split():
                check(name in found, f"{where}{path}: no {name}")


def paths(value, path=""):
    if isinstance(value, dict):
        for key, inner in value.items():
            # Which arenas there are is the load's doing.
            below = f"{path}.{'N' if key.isdigit() else key}".lstrip(".")
            yield below
            yield from paths(inner, below)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{path}[]")


def check_locks(value, where):
    if isinstance(value, dict):
        if "num_ops" in value:
            check(list(value) == LOCK, f"{where}: {list(value)}")
            check(value["max_wait_time"] <= value["total_wait_time"], f"{where}: {value}")
            check(value["num_owner_switch"] <= value["num_ops"], f"{where}: {value}")
        for key, inner in value.items():
            check_locks(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            check_locks(inner, where)


def check_arena(number, arena, general, whole):
    where = f"arena {number}"
    for i, (counts, made) in enumerate(zip(arena["bins"], general["bin"], strict=True)):
        check(counts["nmalloc"] - counts["ndalloc"] == counts["curregs"], where, "bin", i, counts)
        check(counts["curregs"] <= counts["curslabs"] * made["nregs"], where, "bin", i, counts)
        check(counts["nonfull_slabs"] <= counts["curslabs"], where, "bin", i, counts)
        check(counts["nfills"] + counts["nflushes"] <= counts["mutex"]["num_ops"], where, "bin", i, counts)
    check(arena["large"]["nfills"] == arena["large"]["nmalloc"], where, "large", arena["large"])
    sums = {key: sum(b[key] for b in arena["bins"]) for key in "nmalloc ndalloc nrequests nfills nflushes".split()}
    for key, total in sums.items():
        check(arena["small"][key] == total, where, "small", key, arena["small"], total)
    allocated = sum(b["curregs"] * made["size"] for b, made in zip(arena["bins"], general["bin"]))
    check(arena["small"]["allocated"] == allocated, where, "small.allocated", arena["small"], allocated)
    slabs = sum(b["curslabs"] * made["slab_size"] for b, made in zip(arena["bins"], general["bin"]))
    check(len(arena["lextents"]) == len(general["lextent"]), where, "lextents")
    check(arena["pactive"] * PAGE <= arena["mapped"], where, "mapped", arena["pactive"] * PAGE, arena["mapped"])
    # Not what is active: pages inside of slabs may have been given back.
    check(0 < arena["resident"] <= arena["mapped"] + arena["base"] + arena["internal"], where, "resident", arena["resident"])
    check(len(arena["extents"]) == 199, where, "extents")
    if whole:
        check(slabs + arena["large"]["allocated"] == arena["pactive"] * PAGE, where, "slabs", slabs, arena["large"], arena["pactive"])
        for state in ("dirty", "muzzy"):
            free = sum(e[f"{state}_bytes"] for e in arena["extents"])
            check(free == arena[f"p{state}"] * PAGE, where, state, free, arena[f"p{state}"])
        retained = sum(e["retained_bytes"] for e in arena["extents"])
        check(retained == arena["retained"], where, "retained", retained, arena["retained"])


def check_samples(where, rows, told):
    """The sums of samples in the bins or large classes of an arena, which are there or not."""
    for row in rows:
        check(all((key in row) == told for key in SAMPLES), where, "sums of samples", row)
        if told:
            check(row["prof_live_count"] <= row["prof_accum_count"], where, row)
            check(row["prof_live_requested"] <= row["prof_accum_requested"], where, row)
    if told:
        check(sum(row["prof_live_count"] for row in rows) > 0, where, "no samples", rows)


def check_json(text, part, told, peer):
    for line in text.splitlines():
        report = json.loads(line)["jemalloc"]
        check_keys("", report, KEYS)
        arenas = report["stats.arenas"]
        check("merged" in arenas and "0" in arenas, "arenas:", list(arenas))
        general, stats = report["arenas"], report["stats"]
        check(len(general["bin"]) == general["nbins"] == 36, "bins")
        check(len(general["lextent"]) == general["nlextents"], "lextents")
        for name, arena in arenas.items():
            check_keys(f"stats.arenas.{name}.", arena, ARENA_KEYS)
            told_samples = name == "merged" and report["opt"]["prof_stats"]
            check_samples(f"{name} bins", arena["bins"], told_samples)
            check_samples(f"{name} lextents", arena["lextents"], told_samples)
            if name not in ("merged", "destroyed"):
                check(arena.get("name"), f"arena {name} has no name")
                check_arena(name, arena, general, part == "rest")
        check_locks(report, "report")
        each = [arena for name, arena in arenas.items() if name.isdigit()]
        merged = arenas["merged"]
        for key in "nthreads pactive pdirty pmuzzy mapped retained pinned base internal tcache_bytes".split():
            total = sum(arena[key] for arena in each)
            check(merged[key] == total, f"merged {key} is {merged[key]}, the arenas have {total}")
        check(stats["allocated"] <= stats["active"] <= stats["mapped"], stats)
        check(0 < stats["resident"] <= stats["mapped"] + stats["metadata"], stats)
        check(stats["active"] == merged["pactive"] * PAGE and stats["mapped"] == merged["mapped"], stats)
        check(stats["metadata_edata"] + stats["metadata_rtree"] <= stats["metadata"], stats)
        if part == "rest":
            own = arenas[str(told["arena"])]
            check(own["small"]["allocated"] + own["large"]["allocated"] == told["held"], own["small"], own["large"], told)
            check(stats["allocated"] >= told["held"], stats["allocated"], told)
            check(stats["allocated"] <= stats["resident"], stats)
            caches = merged["small"]["allocated"] + merged["large"]["allocated"] - merged["tcache_bytes"]
            check(stats["allocated"] == caches, "allocated", stats["allocated"], "without caches", caches)
            check(stats["zero_reallocs"] == 1, "zero_reallocs", stats["zero_reallocs"])
            opened = [b for b in own["bins"] if b["curregs"]]
            check([b["curregs"] for b in opened] == [200, 200], opened)
        else:
            # On a busy machine the others may not have begun yet; background threads count as well.
            check(1 <= merged["nthreads"] <= 9, "threads", merged["nthreads"])
            check(stats["mutexes"]["ctl"]["num_ops"] > 0, "ctl")
        if peer:
            theirs = set(paths(json.loads(open(peer).read().splitlines()[-1])["jemalloc"]))
            missing = sorted(theirs - set(paths(report)) - LEFT_OUT)
            check(not missing, "jemalloc has", missing)


SUMMARY = re.compile(
    r"^Allocated: (\d+), active: (\d+), metadata: \d+ \(n_thp \d+, edata \d+, rtree \d+\), resident: (\d+), "
    r"mapped: (\d+), retained: \d+, pinned: \d+$"
)


def tables(lines, title):
    """The rows below a heading as dicts, for each table of that name: words of the heading to numbers."""
    for i, line in enumerate(lines):
        if line.startswith(title):
            names, count = [], {}
            for name in line.split()[1:]:
                # Rates have one name for all; so have the counters of a lock.
                count[name] = count.get(name, 0) + 1
                names.append(name if count[name] == 1 else f"{name} {count[name]}")
            rows = []
            for row in lines[i + 1 :]:
                fields = row.split()
                if fields == ["---"]:
                    continue
                if not fields or not re.fullmatch(r"[\d.]+", fields[0]):
                    break
                check(len(fields) == len(names), f"{title} {row!r} has {len(fields)} fields, {len(names)} names")
                rows.append(dict(zip(names, map(float, fields))))
            yield rows


def headings(text):
    """What every report has: the first words of its lines, without numbers and what belongs to one machine."""
    found = set()
    for line in text.splitlines():
        head = re.sub(r"\d+", "N", line.split(": ")[0].strip() if ":" in line else line.strip())
        head = re.sub(r"\s+", " ", head)
        if head and not re.match(r"^[N -]", head) and not head.startswith("Version"):
            found.add(head.split(":")[0])
    return found


def check_text(text, part, told, peer):
    reports = text.split("___ Begin jemalloc statistics ___\n")
    check(reports[0] == "" and len(reports) == (11 if part == "load" else 2), "reports:", len(reports) - 1)
    for report in reports[1:]:
        check(report.endswith("--- End jemalloc statistics ---\n"), "the end:", report[-100:])
        lines = report.splitlines()
        summaries = [m for m in map(SUMMARY.match, lines) if m]
        check(len(summaries) == 1, "summary lines:", len(summaries))
        allocated, active, resident, mapped = map(int, summaries[0].groups())
        check(allocated <= active <= mapped and 0 < resident, summaries[0].group(0))
        bins = list(tables(lines, "bins:"))
        check(bins, "no bins")
        for row in (row for table in bins for row in table):
            room = row["curslabs"] * row["regs"]
            share = 1.0 if room == 0 or row["curregs"] >= room else int(row["curregs"] * 1000 / room) / 1000
            check(abs(row["util"] - share) < 1e-9, "util", row["util"], "not", share, row)
            check(row["allocated"] == row["size"] * row["curregs"], row)
        check(any(0 < row["util"] < 1 for table in bins for row in table), "no bin is partly used")
        for title in ("bins:", "large:"):
            # Those with rows: the sums have a line that begins so, too.
            for i, table in enumerate(filter(None, tables(lines, title))):
                check_samples(f"{title} {i}", table, i == 0 and "  opt.prof_stats: true" in lines)
        check(any(tables(lines, "large:")) and any(tables(lines, "extents:")), "no large blocks, or no extents")
        if part == "rest":
            check(f"arenas[{told['arena']}]:" in lines, "no arena", told["arena"])
            own = list(tables(lines[lines.index(f"arenas[{told['arena']}]:") :], "bins:"))[0]
            check([(r["size"], r["curregs"]) for r in own] == [(112, 200), (3072, 200)], own)
            check(allocated >= told["held"], allocated, told)
        if peer:
            theirs = headings(open(peer).read().split("___ Begin jemalloc statistics ___\n")[1])
            missing = sorted(h for h in theirs - headings(report) if h not in LEFT_OUT)
            check(not missing, "jemalloc has", missing)


def main():
    form, part, *peer = sys.argv[1:]
    text = sys.stdin.read()
    told = dict(re.findall(r"^(held|arena) (\d+)$", text, re.MULTILINE))
    told = {key: int(value) for key, value in told.items()}
    if part == "rest":
        text = re.sub(r"^(?:held|arena) \d+\n", "", text, flags=re.MULTILINE)
    (check_json if form == "json" else check_text)(text, part, told, peer[0] if peer else None)
    for fault in faults[:40]:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


main()
