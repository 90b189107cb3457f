// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the advisor (pace.c).
 */
#include "helpers.h"

/* An admin without any wishes but the target time */
static struct ksm_advisor unlimited(unsigned long target_time)
{
	return (struct ksm_advisor) {
		.mode		= KSM_ADVISOR_SCAN_TIME,
		.max_cpu	= UINT_MAX,
		.min_pages	= 0,
		.max_pages	= UINT_MAX,
		.target_time	= target_time,
	};
}

/* The example at the head of pace.c */
static void advice_worked_example(struct kunit *test)
{
	struct ksm_advisor adv = unlimited(200);
	unsigned int percent;

	adv.max_cpu = 70;
	KUNIT_EXPECT_EQ(test, 300, ksm_advise(&adv, 100, 600 * 1000, 30 * 1000,
					      &percent));
	KUNIT_EXPECT_EQ(test, percent, 5);

	/* Step 3 takes over when the target wants more than 1400 */
	adv = unlimited(20);
	adv.max_cpu = 70;
	KUNIT_EXPECT_EQ(test, 1400, ksm_advise(&adv, 100, 600 * 1000,
					       30 * 1000, &percent));
}

static void advice_obeys_limits(struct kunit *test)
{
	struct ksm_advisor adv = unlimited(200);
	unsigned int percent;

	adv.min_pages = 500;
	KUNIT_EXPECT_EQ(test, 500, ksm_advise(&adv, 100, 600 * 1000, 0,
					      &percent));
	adv = unlimited(200);
	adv.max_pages = 250;
	KUNIT_EXPECT_EQ(test, 250, ksm_advise(&adv, 100, 600 * 1000, 0,
					      &percent));
	/* They contradict each other: the upper one wins */
	adv = unlimited(200);
	adv.min_pages = 500;
	adv.max_pages = 250;
	KUNIT_EXPECT_EQ(test, 250, ksm_advise(&adv, 100, 600 * 1000, 0,
					      &percent));
	/* The CPU limit does not win over the lower one */
	adv = unlimited(200);
	adv.min_pages = 500;
	adv.max_cpu = 1;
	KUNIT_EXPECT_EQ(test, 500, ksm_advise(&adv, 100, 600 * 1000,
					      600 * 1000, &percent));
	KUNIT_EXPECT_EQ(test, percent, 100);
}

/* A third of the advice before is mixed in */
static void advice_is_smooth(struct kunit *test)
{
	struct ksm_advisor adv = unlimited(100);
	unsigned int percent, first, second;

	first = ksm_advise(&adv, 1000, 300 * 1000, 0, &percent);
	KUNIT_EXPECT_EQ(test, first, 3000);
	/* One odd pass, for which 300 pages would have done */
	second = ksm_advise(&adv, first, 10 * 1000, 0, &percent);
	KUNIT_EXPECT_EQ(test, second, (2 * 300 + 3000) / 3);
}

/* With passes as long as the target, the advice stays where it is */
static void advice_settles(struct kunit *test)
{
	struct ksm_advisor adv = unlimited(200);
	unsigned int percent, pages = 100, i;

	/* 60 million pages a batch and second, so to speak */
	for (i = 0; i < 50; i++)
		pages = ksm_advise(&adv, pages,
				   div_u64(60ULL * 1000 * 1000, pages), 0,
				   &percent);
	KUNIT_EXPECT_GE(test, pages, 295);
	KUNIT_EXPECT_LE(test, pages, 305);
}

static void cpu_percent_is_right(struct kunit *test)
{
	static const struct {
		u64		pass_ms;
		u64		cpu_ms;
		unsigned int	percent;
	} cases[] = {
		{ 1000, 0, 1 },		/* never 0, it is divided by */
		{ 1000, 9, 1 },
		{ 1000, 20, 2 },
		{ 1000, 999, 99 },
		{ 1000, 1000, 100 },
		{ 0, 0, 1 },
		{ 0, 1, 100 },
		{ U32_MAX, U32_MAX, 100 },
		{ U64_MAX, U64_MAX, 100 },
		{ U64_MAX, 0, 1 },
	};
	unsigned int i, percent;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ksm_advisor adv = unlimited(200);

		ksm_advise(&adv, 100, cases[i].pass_ms, cases[i].cpu_ms,
			   &percent);
		KUNIT_EXPECT_EQ_MSG(test, percent, cases[i].percent,
				    "pass %llu ms, CPU %llu ms",
				    cases[i].pass_ms, cases[i].cpu_ms);
	}
}

/*
 * B118: whatever the admin wrote and however long it took, scanning goes on,
 * and not faster than allowed.
 */
static void advice_at_the_edges(struct kunit *test)
{
	static const unsigned long limits[] = {
		0, 1, 2, 100, INT_MAX, UINT_MAX, ULONG_MAX - 1, ULONG_MAX,
	};
	static const u64 times[] = {
		0, 1, 999, 1U << 30, U32_MAX, 1ULL << 32, U64_MAX / 100,
		U64_MAX,
	};
	static const unsigned int counts[] = { 0, 1, 100, INT_MAX, UINT_MAX };
	const unsigned int nr = ARRAY_SIZE(limits);
	unsigned int i, t, c;

	/* Each combination of two limits, a target, a CPU limit, two times */
	for (i = 0; i < nr * nr * nr && !ksm_kunit_failed(test); i++) {
		for (t = 0; t < ARRAY_SIZE(times) * ARRAY_SIZE(times); t++) {
			struct ksm_advisor adv = {
				.min_pages	= limits[i % nr],
				.max_pages	= limits[i / nr % nr],
				.target_time	= limits[i / nr / nr],
				.max_cpu	= limits[(i + t) % nr],
				.advised	= times[(i + t) % nr],
			};
			unsigned int percent = 0, pages;

			c = (i + t) % ARRAY_SIZE(counts);
			pages = ksm_advise(&adv, counts[c],
					   times[t % ARRAY_SIZE(times)],
					   times[t / ARRAY_SIZE(times)],
					   &percent);
			if (!pages || !percent)
				KUNIT_FAIL(test, "limits %u, times %u: advice %u, percent %u",
					   i, t, pages, percent);
			if (pages > max(adv.max_pages, 1UL))
				KUNIT_FAIL(test, "limits %u, times %u: advice %u above the maximum",
					   i, t, pages);
		}
	}
}

/* A longer pass never asks for fewer pages, up to the longest there can be */
static void advice_rises_with_pass_time(struct kunit *test)
{
	unsigned int percent, last = 0;
	u64 pass_ms;

	for (pass_ms = 1; pass_ms < U64_MAX / 3; pass_ms += pass_ms / 2 + 1) {
		struct ksm_advisor adv = unlimited(200);
		unsigned int pages = ksm_advise(&adv, 5000, pass_ms, 0,
						&percent);

		KUNIT_EXPECT_GE_MSG(test, pages, last, "pass of %llu ms",
				    pass_ms);
		last = pages;
	}
	KUNIT_EXPECT_GT(test, last, 5000);
}

/* A larger share of a CPU never asks for more pages */
static void advice_falls_with_cpu_time(struct kunit *test)
{
	unsigned int percent, last = UINT_MAX;
	u64 cpu_ms;

	for (cpu_ms = 0; cpu_ms <= 1000 * 1000; cpu_ms += 1000) {
		struct ksm_advisor adv = unlimited(200);
		unsigned int pages;

		adv.max_cpu = 10;
		pages = ksm_advise(&adv, 1000, 1000 * 1000, cpu_ms, &percent);
		KUNIT_EXPECT_LE(test, pages, last);
		last = pages;
	}
	KUNIT_EXPECT_EQ(test, last, 100);
}

static void mode_sets_pages_to_scan(struct kunit *test)
{
	struct ksm_advisor adv;
	unsigned int pages;

	KUNIT_ASSERT_EQ(test, 0, ksm_settings_lock());
	adv = ksm_advisor;
	pages = ksm_knobs.pages_to_scan;

	ksm_advisor.min_pages = 1234;
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_advisor.mode, KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 1234);
	KUNIT_EXPECT_EQ(test, ksm_advisor.advised, 0);

	/* The same mode again changes nothing */
	ksm_knobs.pages_to_scan = 77;
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 77);
	ksm_advisor_set_mode(KSM_ADVISOR_NONE);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, KSM_DEFAULT_PAGES);

	/* B118: neither 0 nor what does not fit */
	ksm_advisor.min_pages = 0;
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 1);
	ksm_advisor_set_mode(KSM_ADVISOR_NONE);
	ksm_advisor.min_pages = ULONG_MAX;
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, UINT_MAX);

	ksm_scan_lock();
	ksm_advisor = adv;
	WRITE_ONCE(ksm_knobs.pages_to_scan, pages);
	ksm_scan_unlock();
	ksm_settings_unlock();
}

static struct kunit_case pace_cases[] = {
	KUNIT_CASE(advice_worked_example),
	KUNIT_CASE(advice_obeys_limits),
	KUNIT_CASE(advice_is_smooth),
	KUNIT_CASE(advice_settles),
	KUNIT_CASE(cpu_percent_is_right),
	KUNIT_CASE(advice_at_the_edges),
	KUNIT_CASE(advice_rises_with_pass_time),
	KUNIT_CASE(advice_falls_with_cpu_time),
	KUNIT_CASE(mode_sets_pages_to_scan),
	{}
};

static struct kunit_suite pace_suite = {
	.name = "ksm_pace",
	.test_cases = pace_cases,
};

kunit_test_suite(pace_suite);
