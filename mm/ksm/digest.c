// SPDX-License-Identifier: GPL-2.0
/*
 * The bytes of a page: their order, and their digest, a 64-bit hash that is
 * seeded at boot.
 *
 * A digest orders the trees and tells whether a page has changed.  It never
 * decides that two pages are equal: that takes a comparison of all bytes
 * under write protection, in merge.c.  The seed keeps the keys from being
 * predicted; that does not make the hash a cryptographic one, so the trees
 * must (and do) work, only slower, when digests collide.
 */
#include <kunit/static_stub.h>
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/random.h>
#include <linux/xxhash.h>
#include "internal.h"

static u64 digest_seed __ro_after_init;
static u64 zero_digest __ro_after_init;

/**
 * ksm_digest_page - hash the bytes of a page
 * @page: the page, referenced by the caller
 *
 * The page may be written to meanwhile; the digest is then that of a mixture,
 * and differs from what the next look will find.
 *
 * Context: any that may map a page locally.
 * Return: the digest.
 */
u64 ksm_digest_page(struct page *page)
{
	void *bytes;
	u64 digest;

	KUNIT_STATIC_STUB_REDIRECT(ksm_digest_page, page);

	bytes = kmap_local_page(page);
	digest = xxh64(bytes, PAGE_SIZE, digest_seed);
	kunmap_local(bytes);
	return digest;
}

/**
 * ksm_page_cmp - order two pages by their bytes
 * @a: a page, referenced
 * @b: another
 *
 * Context: any that may map pages locally.
 * Return: less than, equal to or greater than 0, as memcmp().
 */
int ksm_page_cmp(struct page *a, struct page *b)
{
	void *bytes_a = kmap_local_page(a);
	void *bytes_b = kmap_local_page(b);
	int order = memcmp(bytes_a, bytes_b, PAGE_SIZE);

	kunmap_local(bytes_b);
	kunmap_local(bytes_a);
	return order;
}

/**
 * ksm_digest_is_zero - is this the digest of a page full of zeros?
 * @digest: as returned by ksm_digest_page()
 *
 * Context: any.
 * Return: true if it is; the page may still hold other bytes.
 */
bool ksm_digest_is_zero(u64 digest)
{
	return digest == zero_digest;
}

/**
 * ksm_frame_tag - squeeze a frame number into a record
 * @pfn: the frame number
 *
 * Hashed, since the low bits of the frame numbers of a huge page equal those
 * of the addresses it is mapped at, so that they would tell nothing apart.
 * Zero is left free to mean "no frame".
 *
 * Context: any.
 * Return: a tag that is equal for equal frames and never 0.
 */
u16 ksm_frame_tag(unsigned long pfn)
{
	u16 tag = hash_long(pfn, KSM_REC_TAG_BITS);

	return tag ?: 1;
}

/**
 * ksm_digest_init - draw the seed
 *
 * Context: once, at boot, before anything is digested.
 */
void __init ksm_digest_init(void)
{
	digest_seed = get_random_u64();
	zero_digest = ksm_digest_page(ZERO_PAGE(0));
}
