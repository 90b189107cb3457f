// SPDX-License-Identifier: GPL-2.0
/*
 * The bytes of a page: their order, and their digest, a hash of 40 bits that is
 * seeded at boot.
 *
 * A digest orders the trees and tells whether a page has changed.  It never
 * decides that two pages are equal: that takes a comparison of all bytes
 * under write protection, in merge.c.  The seed keeps the keys from being
 * predicted; that does not make the hash a cryptographic one, so the trees
 * must (and do) work, only slower, when digests collide.
 *
 * The hash is the folded multiplication of wyhash (Wang Yi, public domain):
 * two words, each blinded by a secret or by what came before, are multiplied,
 * and the halves of the product xored.  It reads a cached page in half the time
 * that xxh64 takes, and needs no vector registers, which ksmd may not use
 * without saving those of a program.  Four chains keep the multiplier busy.
 * Where there is no such multiplication, it is xxh64.
 */
#include <kunit/static_stub.h>
#include <linux/highmem.h>
#include <linux/random.h>
#include <linux/xxhash.h>
#include "internal.h"

#define NR_LANES	4

static u64 secret[NR_LANES + 1] __ro_after_init;

#ifdef CONFIG_KSM_DEBUG
static u64 zero_digest;					/* S */
static unsigned int digest_bits = KSM_DIGEST_BITS;	/* S */
#else
static u64 zero_digest __ro_after_init;
#define digest_bits	KSM_DIGEST_BITS
#endif

/* The compiler has the type wherever the processor has the instruction */
#if defined(__SIZEOF_INT128__) && \
	(defined(CONFIG_ARCH_SUPPORTS_INT128) || defined(CONFIG_UML))

static __always_inline u64 fold(u64 a, u64 b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (u64)product ^ (u64)(product >> 64);
}

static u64 hash_bytes(const u64 *word)
{
	const u64 *end = word + PAGE_SIZE / sizeof(*word);
	u64 a = secret[0], b = secret[1], c = secret[2], d = secret[3];

	for (; word < end; word += 2 * NR_LANES) {
		a = fold(word[0] ^ secret[0], word[1] ^ a);
		b = fold(word[2] ^ secret[1], word[3] ^ b);
		c = fold(word[4] ^ secret[2], word[5] ^ c);
		d = fold(word[6] ^ secret[3], word[7] ^ d);
	}
	return fold(fold(a ^ secret[4], rol64(b, 16)) ^ rol64(c, 32),
		    rol64(d, 48) ^ secret[4]);
}

#else

static u64 hash_bytes(const u64 *word)
{
	return xxh64(word, PAGE_SIZE, secret[0]);
}

#endif

/**
 * ksm_digest_page - hash the bytes of a page
 * @page: the page, referenced by the caller
 *
 * The page may be written to meanwhile; the digest is then that of a mixture,
 * and differs from what the next look will find.
 *
 * Context: any that may map a page locally.
 * Return: the digest, no more than KSM_DIGEST_MASK.
 */
u64 ksm_digest_page(struct page *page)
{
	void *bytes;
	u64 digest;

	KUNIT_STATIC_STUB_REDIRECT(ksm_digest_page, page);

	bytes = kmap_local_page(page);
	/* Stores to the page meanwhile are what the digest is to tell of */
	digest = data_race(hash_bytes(bytes));
	kunmap_local(bytes);
	return digest >> (64 - digest_bits);
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
	int order;

	/* Who needs to be sure has both pages write-protected */
	order = data_race(memcmp(bytes_a, bytes_b, PAGE_SIZE));
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
 * ksm_digest_init - draw the secrets
 *
 * Context: once, at boot, before anything is digested.
 */
void __init ksm_digest_init(void)
{
	get_random_bytes(secret, sizeof(secret));
	zero_digest = ksm_digest_page(ZERO_PAGE(0));
}

#ifdef CONFIG_KSM_DEBUG
/**
 * ksm_digest_strength - how many bits has a digest?
 *
 * Context: scan mutex.
 * Return: KSM_DIGEST_BITS, but for what ksm_digest_weaken() was told.
 */
unsigned int ksm_digest_strength(void)
{
	return digest_bits;
}

/**
 * ksm_digest_weaken - have digests collide, to see what comes of it
 * @bits: how many are left, from 1 to KSM_DIGEST_BITS
 *
 * Context: scan mutex; nothing may be ordered by a digest meanwhile.
 */
void ksm_digest_weaken(unsigned int bits)
{
	digest_bits = bits;
	zero_digest = ksm_digest_page(ZERO_PAGE(0));
}
#endif
