/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoints of KSM.  Names, fields and formats are an interface: tools
 * read them.  When each is emitted is told in
 * Documentation/admin-guide/mm/ksm.rst.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ksm

#if !defined(_TRACE_KSM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KSM_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(ksm_pass,

	TP_PROTO(int seq, u32 rmap_entries),

	TP_ARGS(seq, rmap_entries),

	TP_STRUCT__entry(
		__field(int,	seq)
		__field(u32,	rmap_entries)
	),

	TP_fast_assign(
		__entry->seq		= seq;
		__entry->rmap_entries	= rmap_entries;
	),

	TP_printk("seq %d rmap size %d", __entry->seq, __entry->rmap_entries)
);

/* A full pass begins: passes completed so far, and pages with a record */
DEFINE_EVENT(ksm_pass, ksm_start_scan,
	TP_PROTO(int seq, u32 rmap_entries),
	TP_ARGS(seq, rmap_entries)
);

/* A full pass is complete */
DEFINE_EVENT(ksm_pass, ksm_stop_scan,
	TP_PROTO(int seq, u32 rmap_entries),
	TP_ARGS(seq, rmap_entries)
);

DECLARE_EVENT_CLASS(ksm_registration,

	TP_PROTO(void *mm),

	TP_ARGS(mm),

	TP_STRUCT__entry(
		__field(void *,	mm)
	),

	TP_fast_assign(
		__entry->mm = mm;
	),

	TP_printk("mm %p", __entry->mm)
);

/* An mm is registered */
DEFINE_EVENT(ksm_registration, ksm_enter,
	TP_PROTO(void *mm),
	TP_ARGS(mm)
);

/* An exiting mm is out of KSM's hands */
DEFINE_EVENT(ksm_registration, ksm_exit,
	TP_PROTO(void *mm),
	TP_ARGS(mm)
);

/* A page was, or with err set was not, replaced by the zero page */
TRACE_EVENT(ksm_merge_one_page,

	TP_PROTO(unsigned long pfn, void *rmap_item, void *mm, int err),

	TP_ARGS(pfn, rmap_item, mm, err),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(void *,		rmap_item)
		__field(void *,		mm)
		__field(int,		err)
	),

	TP_fast_assign(
		__entry->pfn		= pfn;
		__entry->rmap_item	= rmap_item;
		__entry->mm		= mm;
		__entry->err		= err;
	),

	TP_printk("ksm pfn %lu rmap_item %p mm %p error %d", __entry->pfn,
		  __entry->rmap_item, __entry->mm, __entry->err)
);

/* A page was, or was not, replaced by a merged one; made one, if that is NULL */
TRACE_EVENT(ksm_merge_with_ksm_page,

	TP_PROTO(void *ksm_page, unsigned long pfn, void *rmap_item, void *mm,
		 int err),

	TP_ARGS(ksm_page, pfn, rmap_item, mm, err),

	TP_STRUCT__entry(
		__field(void *,		ksm_page)
		__field(unsigned long,	pfn)
		__field(void *,		rmap_item)
		__field(void *,		mm)
		__field(int,		err)
	),

	TP_fast_assign(
		__entry->ksm_page	= ksm_page;
		__entry->pfn		= pfn;
		__entry->rmap_item	= rmap_item;
		__entry->mm		= mm;
		__entry->err		= err;
	),

	TP_printk("%spfn %lu rmap_item %p mm %p error %d",
		  __entry->ksm_page ? "ksm " : "", __entry->pfn,
		  __entry->rmap_item, __entry->mm, __entry->err)
);

/* A stable node was dropped */
TRACE_EVENT(ksm_remove_ksm_page,

	TP_PROTO(unsigned long pfn),

	TP_ARGS(pfn),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
	),

	TP_fast_assign(
		__entry->pfn = pfn;
	),

	TP_printk("pfn %lu", __entry->pfn)
);

/* An item was taken off a stable node that lists others still */
TRACE_EVENT(ksm_remove_rmap_item,

	TP_PROTO(unsigned long pfn, void *rmap_item, void *mm),

	TP_ARGS(pfn, rmap_item, mm),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(void *,		rmap_item)
		__field(void *,		mm)
	),

	TP_fast_assign(
		__entry->pfn		= pfn;
		__entry->rmap_item	= rmap_item;
		__entry->mm		= mm;
	),

	TP_printk("pfn %lu rmap_item %p mm %p", __entry->pfn,
		  __entry->rmap_item, __entry->mm)
);

/* The advisor set pages_to_scan, after a pass of scan_time seconds */
TRACE_EVENT(ksm_advisor,

	TP_PROTO(s64 scan_time, unsigned long pages_to_scan,
		 unsigned int cpu_percent),

	TP_ARGS(scan_time, pages_to_scan, cpu_percent),

	TP_STRUCT__entry(
		__field(s64,		scan_time)
		__field(unsigned long,	pages_to_scan)
		__field(unsigned int,	cpu_percent)
	),

	TP_fast_assign(
		__entry->scan_time	= scan_time;
		__entry->pages_to_scan	= pages_to_scan;
		__entry->cpu_percent	= cpu_percent;
	),

	TP_printk("ksm scan time %lld pages_to_scan %lu cpu percent %u",
		  __entry->scan_time, __entry->pages_to_scan,
		  __entry->cpu_percent)
);

/*
 * ksmd let go of an mm: how many pages were looked at, looked up in the filter
 * without being read, read, and brought to a merge; what each of that took; and
 * how long mmap_lock was held for it
 */
TRACE_EVENT(ksm_batch,

	TP_PROTO(void *mm, const u32 *pages, const u64 *nsecs),

	TP_ARGS(mm, pages, nsecs),

	TP_STRUCT__entry(
		__field(void *,	mm)
		__field(u32,	looked)
		__field(u32,	filtered)
		__field(u32,	read)
		__field(u32,	climbed)
		__field(u64,	look_ns)
		__field(u64,	filter_ns)
		__field(u64,	read_ns)
		__field(u64,	merge_ns)
	),

	TP_fast_assign(
		__entry->mm		= mm;
		__entry->looked		= pages[0];
		__entry->filtered	= pages[1];
		__entry->read		= pages[2];
		__entry->climbed	= pages[3];
		__entry->look_ns	= nsecs[0];
		__entry->filter_ns	= nsecs[1];
		__entry->read_ns	= nsecs[2];
		__entry->merge_ns	= nsecs[3];
	),

	TP_printk("mm %p looked %u in %llu ns filtered %u in %llu ns read %u in %llu ns merging %u in %llu ns",
		  __entry->mm, __entry->looked, __entry->look_ns,
		  __entry->filtered, __entry->filter_ns, __entry->read,
		  __entry->read_ns, __entry->climbed, __entry->merge_ns)
);

TRACE_EVENT(ksm_locked,

	TP_PROTO(unsigned int lock, u64 nsecs),

	TP_ARGS(lock, nsecs),

	TP_STRUCT__entry(
		__field(u64,		nsecs)
		__field(unsigned int,	lock)
	),

	TP_fast_assign(
		__entry->nsecs	= nsecs;
		__entry->lock	= lock;
	),

	TP_printk("%s held for %llu ns",
		  __print_symbolic(__entry->lock, { 0, "scan_mutex" },
				   { 1, "mmap_lock" }, { 2, "anon_vma" }),
		  __entry->nsecs)
);

#endif /* _TRACE_KSM_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
