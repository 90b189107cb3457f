// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of the digest and of the order of pages (digest.c).
 */
#include <kunit/static_stub.h>
#include "helpers.h"

static void fill_random(struct kunit *test, struct page *page)
{
	struct rnd_state rnd;

	ksm_kunit_seed(test, &rnd);
	prandom_bytes_state(&rnd, page_address(page), PAGE_SIZE);
}

/* One bit of any byte, and it is another digest */
static void digest_depends_on_every_byte(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	u8 *bytes = page_address(page);
	u64 digest;
	unsigned int i;

	fill_random(test, page);
	digest = ksm_digest_page(page);
	for (i = 0; i < PAGE_SIZE && !ksm_kunit_failed(test); i++) {
		bytes[i] ^= 1 << i % 8;
		if (ksm_digest_page(page) == digest)
			KUNIT_FAIL(test, "byte %u makes no difference", i);
		bytes[i] ^= 1 << i % 8;
	}
	KUNIT_EXPECT_EQ(test, ksm_digest_page(page), digest);
}

/* A digest fits into a record, and comes out again whole */
static void digest_fits_into_record(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	u64 all = 0, none = KSM_DIGEST_MASK;
	unsigned int i;

	for (i = 0; i < 200; i++) {
		u64 digest, rec;

		fill_random(test, page);
		((u8 *)page_address(page))[0] = i;
		digest = ksm_digest_page(page);
		rec = ksm_rec_plain(KSM_VOLATILE, 0, true, U16_MAX, digest);
		KUNIT_EXPECT_EQ(test, ksm_rec_digest(rec), digest);
		all |= digest;
		none &= digest;
	}
	/* Each of its bits is put to use */
	KUNIT_EXPECT_EQ(test, all, KSM_DIGEST_MASK);
	KUNIT_EXPECT_EQ(test, none, 0);
}

/* Words in the place of others, zeros in the place of zeros: all is told */
static void digest_minds_the_order(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	u64 *word = page_address(page);
	u64 seen[64];
	unsigned int i, j;

	for (i = 0; i < 64; i++) {
		word[i * 8] = 1;
		seen[i] = ksm_digest_page(page);
		word[i * 8] = 0;
		for (j = 0; j < i; j++)
			KUNIT_EXPECT_NE(test, seen[i], seen[j]);
	}
}

static void digest_of_equal_pages(struct kunit *test)
{
	struct page *a = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	struct page *b = ksm_kunit_page(test, NUMA_NO_NODE, 0xff);

	fill_random(test, a);
	KUNIT_EXPECT_NE(test, ksm_digest_page(a), ksm_digest_page(b));
	memcpy(page_address(b), page_address(a), PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, ksm_digest_page(a), ksm_digest_page(b));
}

static void digest_of_zeros(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	u8 *bytes = page_address(page);
	unsigned int i;

	KUNIT_EXPECT_TRUE(test, ksm_digest_is_zero(ksm_digest_page(page)));
	KUNIT_EXPECT_TRUE(test,
			  ksm_digest_is_zero(ksm_digest_page(ZERO_PAGE(0))));
	for (i = 0; i < PAGE_SIZE; i += 111) {
		bytes[i] = 1;
		KUNIT_EXPECT_FALSE(test,
				   ksm_digest_is_zero(ksm_digest_page(page)));
		bytes[i] = 0;
	}
}

static int sign(int number)
{
	return (number > 0) - (number < 0);
}

static void page_cmp_is_memcmp(struct kunit *test)
{
	struct page *a = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	struct page *b = ksm_kunit_page(test, NUMA_NO_NODE, 0);
	u8 *bytes = page_address(b);
	unsigned int i;

	fill_random(test, a);
	memcpy(bytes, page_address(a), PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, ksm_page_cmp(a, b), 0);
	KUNIT_EXPECT_EQ(test, ksm_page_cmp(a, a), 0);
	for (i = 0; i < PAGE_SIZE && !ksm_kunit_failed(test); i++) {
		int order;

		bytes[i] += 1 + i % 255;
		order = memcmp(page_address(a), bytes, PAGE_SIZE);
		KUNIT_EXPECT_NE(test, order, 0);
		KUNIT_EXPECT_EQ(test, sign(ksm_page_cmp(a, b)), sign(order));
		KUNIT_EXPECT_EQ(test, sign(ksm_page_cmp(b, a)), -sign(order));
		bytes[i] -= 1 + i % 255;
	}
}

static u64 stubbed_digest(struct page *page)
{
	return 4711;
}

/* Tests of merging rely on it that they can make digests collide */
static void digest_can_be_replaced(struct kunit *test)
{
	struct page *page = ksm_kunit_page(test, NUMA_NO_NODE, 1);
	u64 digest = ksm_digest_page(page);

	kunit_activate_static_stub(test, ksm_digest_page, stubbed_digest);
	KUNIT_EXPECT_EQ(test, ksm_digest_page(page), 4711);
	kunit_deactivate_static_stub(test, ksm_digest_page);
	KUNIT_EXPECT_EQ(test, ksm_digest_page(page), digest);
}

static struct kunit_case digest_cases[] = {
	KUNIT_CASE(digest_depends_on_every_byte),
	KUNIT_CASE(digest_fits_into_record),
	KUNIT_CASE(digest_minds_the_order),
	KUNIT_CASE(digest_of_equal_pages),
	KUNIT_CASE(digest_of_zeros),
	KUNIT_CASE(page_cmp_is_memcmp),
	KUNIT_CASE(digest_can_be_replaced),
	{}
};

static struct kunit_suite digest_suite = {
	.name = "ksm_digest",
	.test_cases = digest_cases,
};

kunit_test_suite(digest_suite);
