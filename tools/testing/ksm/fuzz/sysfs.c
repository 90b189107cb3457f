// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target: the files in /sys/kernel/mm/ksm, against a reader of numbers and
 * words of its own, written after the documentation: a value is taken as
 * Documentation/admin-guide/mm/ksm.rst says, or it is refused with the error named
 * there, and then nothing has changed in any file.
 *
 * What is behind run, max_page_sharing and merge_across_nodes is in ksm.c, and
 * not here: it takes the value, or fails as the input says.
 */
#include <stdarg.h>
#include "fuzz.h"

#define MAX_TEXT	80

enum kind {
	KIND_RUN,
	KIND_UINT,
	KIND_PAGES,	/* a uint that belongs to the advisor at times */
	KIND_SLEEP,	/* a uint that ksmd is woken for */
	KIND_ULONG,
	KIND_SHARING,
	KIND_ACROSS,
	KIND_SWITCH,
	KIND_MODE,
};

/* All files that can be written; what is in them, as far as the model knows */
static struct file_model {
	const char	*name;
	enum kind	kind;
	unsigned long	first;		/* what an input begins with */
	unsigned long	least;
	unsigned long	value;
} files[] = {
	{ "run", KIND_RUN, 0 },
	{ "pages_to_scan", KIND_PAGES, 100 },
	{ "sleep_millisecs", KIND_SLEEP, 20 },
	{ "max_page_sharing", KIND_SHARING, 256 },
	{ "merge_across_nodes", KIND_ACROSS, 1 },
	{ "use_zero_pages", KIND_SWITCH, 0 },
	{ "smart_scan", KIND_SWITCH, 1 },
	{ "stable_node_chains_prune_millisecs", KIND_UINT, 2000 },
	{ "advisor_mode", KIND_MODE, 0 },
	{ "advisor_max_cpu", KIND_UINT, 70 },
	{ "advisor_min_pages_to_scan", KIND_ULONG, 500 },
	{ "advisor_max_pages_to_scan", KIND_ULONG, 30000 },
	{ "advisor_target_scan_time", KIND_ULONG, 200, 1 },
};

/* All that can only be read */
static const char * const counters[] = {
	"pages_shared", "pages_sharing", "pages_unshared", "pages_volatile",
	"pages_scanned", "pages_skipped", "full_scans", "stable_node_chains",
	"stable_node_dups", "ksm_zero_pages", "general_profit",
};

static const struct attribute_group *directory;
static int settings_error, knob_error;	/* as the input says */
static unsigned int settings_held, wakes;
static bool paused;
static unsigned long footprint;

/* ------------------------------------------------------------------ */
/* What the files call                                                 */
/* ------------------------------------------------------------------ */

struct kobject *mm_kobj;

int sysfs_create_group(struct kobject *kobj,
		       const struct attribute_group *group)
{
	directory = group;
	return 0;
}

static int emit(char *buf, int at, const char *format, va_list args)
{
	int length;

	must((unsigned long)buf % PAGE_SIZE == 0);
	must(at >= 0 && at < PAGE_SIZE);
	length = vsnprintf(buf + at, PAGE_SIZE - at, format, args);
	must(length >= 0 && length < PAGE_SIZE - at);
	return length;
}

int sysfs_emit(char *buf, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = emit(buf, 0, format, args);
	va_end(args);
	return length;
}

int sysfs_emit_at(char *buf, int at, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = emit(buf, at, format, args);
	va_end(args);
	return length;
}

int ksm_settings_lock(void)
{
	must(!settings_held);
	if (!settings_error)
		settings_held++;
	return settings_error;
}

void ksm_settings_unlock(void)
{
	must(settings_held);
	settings_held--;
}

int ksm_set_run(unsigned int run)
{
	must(settings_held);
	if (run != KSM_RUN_UNMERGE || ksm_knobs.run == run || !knob_error) {
		ksm_knobs.run = run;
		return 0;
	}
	ksm_knobs.run = KSM_RUN_STOP;
	return knob_error;
}

int ksm_set_max_page_sharing(unsigned int most)
{
	must(settings_held);
	if (!knob_error)
		ksm_knobs.max_page_sharing = most;
	return knob_error;
}

int ksm_set_merge_across_nodes(bool across)
{
	must(settings_held);
	if (!knob_error)
		ksm_knobs.merge_across_nodes = across;
	return knob_error;
}

bool ksm_paused(void)
{
	return paused;
}

void ksm_wake_sleeper(void)
{
	wakes++;
}

unsigned long ksm_registry_footprint(void)
{
	return footprint;
}

/* ------------------------------------------------------------------ */
/* The model                                                           */
/* ------------------------------------------------------------------ */

/* A number as the kernel's files take it */
struct number {
	bool			valid;
	bool			negative;
	bool			huge;		/* more than 64 bits */
	unsigned long		value;		/* without the sign */
};

/* A sign, digits, and perhaps the newline that echo writes; nothing else */
static struct number read_number(const char *text)
{
	struct number number = {};
	__uint128_t value = 0;

	if (*text == '-' || *text == '+')
		number.negative = *text++ == '-';
	for (; *text >= '0' && *text <= '9'; text++) {
		number.valid = true;
		value = value * 10 + (*text - '0');
		if (value > ULONG_MAX) {
			number.huge = true;
			value = ULONG_MAX;
		}
	}
	if (*text == '\n')
		text++;
	/* What comes after too many digits is not read */
	if (*text && !number.huge)
		number.valid = false;
	number.value = value;
	return number;
}

static int read_unsigned(const char *text, unsigned long least,
			 unsigned long most, unsigned long *value)
{
	struct number number = read_number(text);

	if (!number.valid || number.negative || number.huge ||
	    number.value < least || number.value > most)
		return -EINVAL;
	*value = number.value;
	return 0;
}

static int read_sharing(const char *text, unsigned long *value)
{
	struct number number = read_number(text);
	/* The least int has no counterpart */
	unsigned long most = (unsigned long)INT_MAX + number.negative;

	if (!number.valid)
		return -EINVAL;
	if (number.huge || number.value > most)
		return -ERANGE;
	if (number.negative || number.value < 2)
		return -EINVAL;
	*value = number.value;
	return 0;
}

static int read_across(const char *text, unsigned long *value)
{
	struct number number = read_number(text);

	if (number.valid && !number.negative && number.huge)
		return -ERANGE;
	return read_unsigned(text, 0, 1, value);
}

/* What it begins with is enough, in either case of letters */
static int read_switch(const char *text, unsigned long *value)
{
	char first = *text, second = first ? text[1] : '\0';

	if (first && strchr("1yYtT", first))
		*value = 1;
	else if (first && strchr("0nNfF", first))
		*value = 0;
	else if (first && second && strchr("oO", first) && strchr("nN", second))
		*value = 1;
	else if (first && second && strchr("oO", first) && strchr("fF", second))
		*value = 0;
	else
		return -EINVAL;
	return 0;
}

static int read_mode(const char *text, unsigned long *value)
{
	size_t length = strlen(text);

	if (length && text[length - 1] == '\n')
		length--;
	if (length == 4 && !memcmp(text, "none", 4))
		*value = 0;
	else if (length == 9 && !memcmp(text, "scan-time", 9))
		*value = 1;
	else
		return -EINVAL;
	return 0;
}

static struct file_model *model_of(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if (!strcmp(files[i].name, name))
			return &files[i];
	}
	return NULL;
}

static int read_value(const struct file_model *file, const char *text,
		      unsigned long *value)
{
	switch (file->kind) {
	case KIND_RUN:
		return read_unsigned(text, 0, 2, value);
	case KIND_PAGES:
		if (model_of("advisor_mode")->value)
			return -EINVAL;
		fallthrough;
	case KIND_UINT:
	case KIND_SLEEP:
		return read_unsigned(text, file->least, UINT_MAX, value);
	case KIND_ULONG:
		return read_unsigned(text, file->least, ULONG_MAX, value);
	case KIND_SHARING:
		return read_sharing(text, value);
	case KIND_ACROSS:
		return read_across(text, value);
	case KIND_SWITCH:
		return read_switch(text, value);
	default:
		return read_mode(text, value);
	}
}

/* Whoever sets the mode gives pages_to_scan another owner, and so a value */
static void change_mode(struct file_model *file, unsigned long mode)
{
	unsigned long pages = 100;

	if (mode == file->value)
		return;
	if (mode) {
		pages = model_of("advisor_min_pages_to_scan")->value;
		pages = pages > UINT_MAX ? UINT_MAX : pages ? pages : 1;
	}
	file->value = mode;
	model_of("pages_to_scan")->value = pages;
}

/* Write to a file of the model: 0 or the error */
static int model_write(struct file_model *file, const char *text)
{
	unsigned long value;
	int err = read_value(file, text, &value);

	if (err)
		return err;
	switch (file->kind) {
	case KIND_RUN:
		if (settings_error)
			return settings_error;
		if (value == 2 && file->value != 2 && knob_error) {
			file->value = 0;
			return knob_error;
		}
		break;
	case KIND_SHARING:
	case KIND_ACROSS:
		if (settings_error || knob_error)
			return settings_error ?: knob_error;
		break;
	case KIND_MODE:
		change_mode(file, value);
		break;
	default:
		break;
	}
	file->value = value;
	return 0;
}

/* ------------------------------------------------------------------ */
/* Comparing                                                           */
/* ------------------------------------------------------------------ */

static void show(struct kobj_attribute *attr, char *text)
{
	static char page[PAGE_SIZE] __aligned(4096);
	ssize_t length = attr->show(mm_kobj, attr, page);

	must(length > 0 && length < PAGE_SIZE && strlen(page) == length);
	must(length < MAX_TEXT && page[length - 1] == '\n');
	memcpy(text, page, length + 1);
}

static void check_file(const struct file_model *file,
		       struct kobj_attribute *attr)
{
	char text[MAX_TEXT], expected[MAX_TEXT];

	show(attr, text);
	if (file->kind == KIND_MODE)
		sprintf(expected, file->value ? "none [scan-time]\n" :
						"[none] scan-time\n");
	else if (file->kind == KIND_RUN)
		sprintf(expected, "%lu\n", file->value + (paused ? 4 : 0));
	else
		sprintf(expected, "%lu\n", file->value);
	must(!strcmp(text, expected));
}

static long counter_value(const char *name)
{
	const struct ksm_stats *s = &ksm_stats;
	long rest = s->records - s->unshared - s->shared - s->sharing;
	long profit = (s->sharing + ksm_zero_pages.counter) * PAGE_SIZE -
		      s->bytes - footprint;
	const long values[] = {
		s->shared, s->sharing, s->unshared, max(rest, 0L), s->scanned,
		s->skipped, s->full_scans, s->chains, s->dups,
		ksm_zero_pages.counter, profit,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(counters); i++) {
		if (!strcmp(counters[i], name))
			return values[i];
	}
	must(!"documented");
	return 0;
}

static void check_counter(struct kobj_attribute *attr)
{
	char text[MAX_TEXT], expected[MAX_TEXT];

	must(attr->attr.mode == 0444 && !attr->store);
	show(attr, text);
	sprintf(expected, "%ld\n", counter_value(attr->attr.name));
	must(!strcmp(text, expected));
}

static struct kobj_attribute *attr_of(const struct attribute *attr)
{
	return container_of(attr, struct kobj_attribute, attr);
}

static void check_all(void)
{
	unsigned int i, nr_files = 0, nr_counters = 0;

	for (i = 0; directory->attrs[i]; i++) {
		struct kobj_attribute *attr = attr_of(directory->attrs[i]);
		struct file_model *file = model_of(attr->attr.name);

		if (file) {
			must(attr->attr.mode == 0644 && attr->store);
			check_file(file, attr);
			nr_files++;
		} else {
			check_counter(attr);
			nr_counters++;
		}
	}
	must(nr_files == ARRAY_SIZE(files));
	must(nr_counters == ARRAY_SIZE(counters));
	must(!settings_held);
}

/* ------------------------------------------------------------------ */
/* Steps                                                               */
/* ------------------------------------------------------------------ */

/* So that the input need not find words and limits by itself */
static const char * const words[] = {
	"0", "1", "2", "-1", "\n", "none", "scan-time", "on", "off", "yes",
	"true", "2147483647", "2147483648", "-2147483648", "-2147483649",
	"4294967295", "4294967296", "9223372036854775807",
	"9223372036854775808", "18446744073709551615", "18446744073709551616",
};

/* One word or character, which is what most files want, or a row of them */
static size_t read_text(char *text)
{
	unsigned int parts = fuzz_below(4) ? 1 : fuzz_below(16);
	size_t length = 0;

	while (parts--) {
		u8 part = fuzz_u8();
		const char *word = part < 128 ? NULL :
				   words[part % ARRAY_SIZE(words)];

		if (!word && length + 1 < MAX_TEXT) {
			text[length++] = part;
		} else if (word && length + strlen(word) < MAX_TEXT) {
			memcpy(text + length, word, strlen(word));
			length += strlen(word);
		}
	}
	text[length] = '\0';
	return length;
}

/* As the file system does it: no write of nothing, and a 0 at the end */
static void write_file(void)
{
	static const int settings_errors[] = { 0, 0, 0, -EINTR };
	static const int run_errors[] = { 0, 0, -ENOMEM, -EINTR };
	static const int knob_errors[] = { 0, 0, -EBUSY, -EBUSY };
	struct file_model *file = &files[fuzz_below(ARRAY_SIZE(files))];
	unsigned int i, wakes_before = wakes, how = fuzz_u8();
	struct kobj_attribute *attr = NULL;
	char text[MAX_TEXT], *copy;
	size_t length;
	ssize_t done;
	int err;

	settings_error = settings_errors[how % 4];
	knob_error = file->kind == KIND_RUN ? run_errors[how / 4 % 4] :
					      knob_errors[how / 4 % 4];
	length = read_text(text);
	if (!length)
		return;
	for (i = 0; directory->attrs[i]; i++) {
		if (!strcmp(directory->attrs[i]->name, file->name))
			attr = attr_of(directory->attrs[i]);
	}
	must(attr);

	copy = malloc(length + 1);
	must(copy);
	memcpy(copy, text, length + 1);
	done = attr->store(mm_kobj, attr, copy, length);
	must(!memcmp(copy, text, length + 1));
	free(copy);

	err = model_write(file, text);
	must(done == (err ?: (ssize_t)length));
	must(wakes - wakes_before == (file->kind == KIND_SLEEP && !err));
}

static void change_counters(void)
{
	unsigned long *counter = (unsigned long *)&ksm_stats;
	unsigned int i;

	for (i = 0; i < sizeof(ksm_stats) / sizeof(*counter); i++)
		counter[i] = fuzz_u8() * 0x10001;
	ksm_zero_pages.counter = fuzz_u8();
	footprint = fuzz_u8();
	paused = fuzz_below(2);
}

static void reset(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++)
		files[i].value = files[i].first;
	ksm_knobs = (struct ksm_knobs) {
		.pages_to_scan		= 100,
		.sleep_millisecs	= 20,
		.max_page_sharing	= 256,
		.prune_millisecs	= 2000,
		.merge_across_nodes	= true,
		.smart_scan		= true,
	};
	ksm_advisor = (struct ksm_advisor) {
		.max_cpu	= 70,
		.min_pages	= 500,
		.max_pages	= 30000,
		.target_time	= 200,
	};
	memset(&ksm_stats, 0, sizeof(ksm_stats));
	ksm_zero_pages.counter = 0;
	footprint = 0;
	paused = false;
}

int fuzz_one_input(const u8 *data, size_t size)
{
	int kind;

	if (!directory)
		must(!ksm_sysfs_init());
	fuzz_begin(data, size);
	ksm_scan_unlock();
	reset();
	check_all();
	while ((kind = fuzz_step(8)) >= 0) {
		if (kind)
			write_file();
		else
			change_counters();
		check_all();
	}
	reset();
	ksm_scan_lock();
	fuzz_end();
	return 0;
}
