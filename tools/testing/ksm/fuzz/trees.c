// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target: the stable and the unstable trees (stable_tree.c,
 * unstable_tree.c), against plain arrays of the nodes and pages in them.  Few
 * digests and few contents, so that most pages have an equal digest and other
 * bytes, or a twin.  Pages go, or are busy, while they are in a tree.
 *
 * The filter is the real one: whether it lists all entries, some or none must
 * not show.
 */
#include "fuzz.h"

#define NIDS		2
#define DIGESTS		4
#define CONTENTS	6	/* different pages with one digest */
#define PAGES		KSM_BLOCK_PAGES
#define NODES		24

static const u64 digests[DIGESTS] = { 0, 1, BIT_ULL(39), KSM_DIGEST_MASK };

/* A page: NEW, CANDIDATE or MERGED */
struct page_model {
	struct ksm_rmap_item	*item;
	unsigned int		node;		/* MERGED */
	unsigned int		nid;		/* CANDIDATE, and what follows */
	unsigned int		digest;
	unsigned int		contents;
};

enum condition {
	PAGE_FINE,
	PAGE_BUSY,
	PAGE_GONE,
};

/* A stable node, in a tree, if @node is not NULL */
struct node_model {
	struct ksm_stable_node	*node;
	unsigned int		nid;
	unsigned int		digest;
	unsigned int		contents;
	unsigned int		count;
	enum condition		condition;
};

static struct page_model pages[PAGES];
static struct node_model nodes[NODES];
/* Is there a chain for these contents? */
static bool chained[NIDS][DIGESTS][CONTENTS];
/* Was a candidate written to since it was put among those with its digest? */
static bool disordered[NIDS][DIGESTS];

/* ------------------------------------------------------------------ */
/* What the model knows                                                */
/* ------------------------------------------------------------------ */

static bool is_at(const struct node_model *node, unsigned int nid,
		  unsigned int digest)
{
	return node->node && node->nid == nid && node->digest == digest;
}

static unsigned int count_nodes(unsigned int nid, unsigned int digest,
				unsigned int contents)
{
	unsigned int i, count = 0;

	for (i = 0; i < NODES; i++)
		count += is_at(&nodes[i], nid, digest) &&
			 nodes[i].contents == contents;
	return count;
}

/* Entries with a digest: nodes and chains */
static unsigned int count_entries(unsigned int nid, unsigned int digest)
{
	unsigned int contents, count = 0;

	for (contents = 0; contents < CONTENTS; contents++)
		count += count_nodes(nid, digest, contents) > 0;
	return count;
}

static bool all_fine(unsigned int nid, unsigned int digest)
{
	unsigned int i;

	for (i = 0; i < NODES; i++) {
		if (is_at(&nodes[i], nid, digest) &&
		    nodes[i].condition != PAGE_FINE)
			return false;
	}
	return true;
}

/* Has any node with these contents room for another? */
static bool any_room(unsigned int nid, unsigned int digest,
		     unsigned int contents)
{
	unsigned int i;

	for (i = 0; i < NODES; i++) {
		if (is_at(&nodes[i], nid, digest) &&
		    nodes[i].contents == contents &&
		    nodes[i].count < ksm_knobs.max_page_sharing)
			return true;
	}
	return false;
}

static unsigned int count_candidates(unsigned int nid, unsigned int digest)
{
	unsigned int i, count = 0;

	for (i = 0; i < PAGES; i++)
		count += pages[i].item && pages[i].item->state == KSM_CANDIDATE &&
			 pages[i].nid == nid && pages[i].digest == digest;
	return count;
}

static struct node_model *model_of(const struct ksm_stable_node *node)
{
	must(node->pfn < NODES && nodes[node->pfn].node == node);
	return &nodes[node->pfn];
}

/* What ksm_node_compare() does: the contents sought are at @arg */
static enum ksm_order compare(struct ksm_stable_node *node, void *arg)
{
	struct node_model *model = model_of(node);
	unsigned int contents = *(unsigned int *)arg;

	switch (model->condition) {
	case PAGE_GONE:
		return KSM_GONE;
	case PAGE_BUSY:
		return KSM_BUSY;
	default:
		return contents == model->contents ? KSM_SAME :
		       contents < model->contents ? KSM_BEFORE : KSM_AFTER;
	}
}

/* A node that a search came upon, instead of an answer */
static void check_obstacle(enum ksm_found found, struct ksm_stable_node *node,
			   unsigned int nid, unsigned int digest)
{
	must(is_at(model_of(node), nid, digest));
	must(model_of(node)->condition ==
	     (found == KSM_STALE ? PAGE_GONE : PAGE_BUSY));
}

/* ------------------------------------------------------------------ */
/* Comparing                                                           */
/* ------------------------------------------------------------------ */

static void check_node(struct ksm_stable_node *node, unsigned int nid,
		       unsigned int digest, unsigned int contents)
{
	struct node_model *model = model_of(node);

	must(is_at(model, nid, digest) && model->contents == contents);
	must(node->entry.nid == nid && node->entry.digest == digests[digest]);
	must(node->entry.count == model->count);
	if (count_entries(nid, digest) > 1)
		must(ksm_node_crowded(node));
}

static void check_chain(struct ksm_chain *chain, unsigned int nid,
			unsigned int digest, unsigned int contents)
{
	struct ksm_stable_node *node;
	unsigned int count = 0;

	list_for_each_entry(node, &chain->dups, entry.dup) {
		must(node->entry.kind == KSM_DUP);
		must(node->entry.chain == chain);
		check_node(node, nid, digest, contents);
		count++;
	}
	must(count == count_nodes(nid, digest, contents));
	must(count == chain->entry.count);
}

/* The entries, in the order of their digests and contents, and no other */
static void check_stable_tree(unsigned int nid)
{
	struct ksm_entry *entry = ksm_stable_from(nid, 0);
	unsigned int digest, contents;

	for (digest = 0; digest < DIGESTS; digest++) {
		for (contents = 0; contents < CONTENTS; contents++) {
			unsigned int count = count_nodes(nid, digest, contents);

			if (!count)
				continue;
			must(entry && entry->digest == digests[digest]);
			must(entry->kind == (chained[nid][digest][contents] ?
					     KSM_CHAIN : KSM_SINGLE));
			if (entry->kind == KSM_CHAIN) {
				check_chain(ksm_entry_chain(entry), nid, digest,
					    contents);
			} else {
				must(count == 1);
				check_node(ksm_entry_node(entry), nid, digest,
					   contents);
			}
			entry = ksm_stable_next(entry);
		}
		must(ksm_stable_has_digest(nid, digests[digest]) ==
		     !!count_entries(nid, digest));
	}
	must(!entry);
}

static void check_unstable_tree(unsigned int nid)
{
	struct rb_node *rb;
	unsigned int digest, last, count;

	rb = rb_first(ksm_unstable_root(nid));
	for (digest = 0; digest < DIGESTS; digest++) {
		last = 0;
		for (count = count_candidates(nid, digest); count; count--) {
			struct ksm_rmap_item *item;
			struct page_model *page;

			must(rb);
			item = rb_entry(rb, struct ksm_rmap_item, rb);
			page = &pages[ksm_block_index(item->address)];
			must(page->item == item && page->nid == nid);
			must(item->digest == digests[digest]);
			must(ksm_unstable_alone(item) ==
			     (count_candidates(nid, digest) == 1));
			if (!disordered[nid][digest])
				must(page->contents >= last);
			last = page->contents;
			rb = rb_next(rb);
		}
	}
	must(!rb);
}

static void check_counters(void)
{
	unsigned int nid, digest, contents;
	unsigned long chains = 0, dups = 0, entries = 0;

	for (nid = 0; nid < NIDS; nid++) {
		for (digest = 0; digest < DIGESTS; digest++) {
			entries += count_entries(nid, digest);
			for (contents = 0; contents < CONTENTS; contents++) {
				if (!chained[nid][digest][contents])
					continue;
				chains++;
				dups += count_nodes(nid, digest, contents);
			}
		}
	}
	must(ksm_stats.chains == chains && ksm_stats.dups == dups);
	fuzz_check_entries(entries);
}

static void check_all(void)
{
	unsigned int nid;

	for (nid = 0; nid < NIDS; nid++) {
		check_stable_tree(nid);
		check_unstable_tree(nid);
	}
	check_counters();
	ksm_check_all();
}

/* ------------------------------------------------------------------ */
/* Steps: pages                                                        */
/* ------------------------------------------------------------------ */

static void set_record(unsigned int page, enum ksm_state state)
{
	ksm_record_set(ksm_block_find(fuzz_owner(0), 0), page,
		       ksm_rec_listed(state, pages[page].item, page));
}

static struct ksm_rmap_item *make_item(unsigned int page)
{
	if (pages[page].item ||
	    !ksm_block_reserve(fuzz_owner(0), 0, BIT_ULL(page), GFP_KERNEL))
		return NULL;
	return ksm_item_alloc(fuzz_owner(0), page * PAGE_SIZE, GFP_KERNEL);
}

static void forget(unsigned int page)
{
	ksm_record_clear(ksm_block_find(fuzz_owner(0), 0), page);
	ksm_item_free(pages[page].item);
	pages[page].item = NULL;
}

/* Find a candidate with the same bytes, or else the place for it */
static struct ksm_rmap_item *find_twin(const struct page_model *page,
				       struct ksm_unstable_pos *pos)
{
	u64 digest = digests[page->digest];
	struct ksm_rmap_item *item;

	item = ksm_unstable_first(pos, page->nid, digest);
	while (item) {
		struct page_model *other;

		other = &pages[ksm_block_index(item->address)];
		must(other->item == item && other->digest == page->digest);
		must(other->nid == page->nid);
		if (other->contents == page->contents)
			break;
		item = ksm_unstable_next(pos, item, digest,
					 page->contents > other->contents);
	}
	return item;
}

static bool has_twin(const struct page_model *page)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		if (pages[i].item && pages[i].item->state == KSM_CANDIDATE &&
		    pages[i].nid == page->nid &&
		    pages[i].digest == page->digest &&
		    pages[i].contents == page->contents)
			return true;
	}
	return false;
}

/* A page becomes a candidate, if it has no twin among them */
static void add_candidate(void)
{
	unsigned int page = fuzz_below(PAGES);
	struct page_model new = {
		.nid		= fuzz_below(NIDS),
		.digest		= fuzz_below(DIGESTS),
		.contents	= fuzz_below(CONTENTS),
	};
	struct ksm_unstable_pos pos;
	bool twin;

	new.item = make_item(page);
	if (!new.item)
		return;
	twin = find_twin(&new, &pos);
	must(!twin || has_twin(&new));
	must(twin || disordered[new.nid][new.digest] || !has_twin(&new));
	if (twin) {
		ksm_item_free(new.item);
		return;
	}
	ksm_unstable_insert(new.item, &pos, new.nid, digests[new.digest]);
	must(new.item->state == KSM_CANDIDATE);
	pages[page] = new;
	set_record(page, KSM_CANDIDATE);
}

static void drop_candidate(unsigned int index)
{
	struct page_model *page = &pages[index];

	if (!page->item || page->item->state != KSM_CANDIDATE)
		return;
	ksm_unstable_erase(page->item);
	must(page->item->state == KSM_NEW);
	forget(index);
	if (!count_candidates(page->nid, page->digest))
		disordered[page->nid][page->digest] = false;
}

static void write_to_candidate(void)
{
	struct page_model *page = &pages[fuzz_below(PAGES)];

	if (!page->item || page->item->state != KSM_CANDIDATE)
		return;
	page->contents = fuzz_below(CONTENTS);
	disordered[page->nid][page->digest] = true;
}

/* What ksm_item_list() does, but for the page itself */
static void join(unsigned int page, struct node_model *model)
{
	struct ksm_stable_node *node = model->node;
	struct ksm_rmap_item *item = make_item(page);

	if (!item)
		return;
	item->state = KSM_MERGED;
	item->node = node;
	item->anon_vma = (void *)pages;
	hlist_add_head(&item->link, &node->items);
	ksm_count_listed(item->owner, node->entry.count, 1);
	node->entry.count++;
	ksm_stable_room_changed(node);
	model->count++;
	pages[page].item = item;
	pages[page].node = model - nodes;
	set_record(page, KSM_MERGED);
}

static void leave(unsigned int page)
{
	struct ksm_rmap_item *item = pages[page].item;
	struct ksm_stable_node *node;

	if (!item || item->state != KSM_MERGED)
		return;
	node = item->node;
	hlist_del(&item->link);
	ksm_count_listed(item->owner, node->entry.count, -1);
	node->entry.count--;
	ksm_stable_room_changed(node);
	nodes[pages[page].node].count--;
	item->state = KSM_NEW;
	forget(page);
}

/* ------------------------------------------------------------------ */
/* Steps: stable nodes                                                 */
/* ------------------------------------------------------------------ */

/* Out of the tree, and its chain with it, if it is the last one */
static void unchain(const struct node_model *node)
{
	if (count_nodes(node->nid, node->digest, node->contents) == 1)
		chained[node->nid][node->digest][node->contents] = false;
}

static void drop_node(struct node_model *model)
{
	unsigned int i;

	if (!model->node)
		return;
	for (i = 0; i < PAGES; i++) {
		if (pages[i].item && pages[i].item->state == KSM_MERGED &&
		    pages[i].node == model - nodes)
			leave(i);
	}
	must(!model->count);
	ksm_stable_erase(model->node);
	ksm_stable_node_free(model->node);
	unchain(model);
	model->node = NULL;
}

/*
 * Put a node into a tree.  Nodes in the way that are stale are dropped, as all
 * callers do, unless the input says that this ends it.
 */
static enum ksm_found insert(struct node_model *model, unsigned int nid,
			     struct ksm_stable_node *node,
			     struct ksm_chain **spare)
{
	struct ksm_stable_node *obstacle;
	bool patient = fuzz_below(4);
	enum ksm_found found;

	do {
		bool fine = all_fine(nid, model->digest);

		found = ksm_stable_insert(node, nid, compare, &model->contents,
					  spare, &obstacle);
		if (found == KSM_FOUND)
			break;
		must(found == KSM_STALE || found == KSM_RETRY);
		must(!fine);
		check_obstacle(found, obstacle, nid, model->digest);
		if (found == KSM_STALE && patient)
			drop_node(model_of(obstacle));
	} while (found == KSM_STALE && patient);
	return found;
}

static void mark_chained(const struct node_model *node)
{
	if (count_nodes(node->nid, node->digest, node->contents) > 1)
		chained[node->nid][node->digest][node->contents] = true;
}

static void add_node(void)
{
	struct node_model new = {
		.nid		= fuzz_below(NIDS),
		.digest		= fuzz_below(DIGESTS),
		.contents	= fuzz_below(CONTENTS),
	};
	struct ksm_chain *spare = ksm_chain_alloc(GFP_KERNEL);
	unsigned int i;

	for (i = 0; i < NODES && nodes[i].node; i++)
		;
	if (i < NODES)
		new.node = ksm_stable_node_alloc(digests[new.digest],
						 GFP_KERNEL);
	if (spare && new.node) {
		new.node->pfn = i;
		if (insert(&new, new.nid, new.node, &spare) == KSM_FOUND) {
			nodes[i] = new;
			mark_chained(&nodes[i]);
			new.node = NULL;
		}
	}
	ksm_chain_free(spare);
	ksm_stable_node_free(new.node);
}

/* The page of a node has migrated to another memory node */
static void move_node(void)
{
	struct node_model *model = &nodes[fuzz_below(NODES)];
	unsigned int to = 1 - model->nid;
	struct ksm_chain *spare;

	if (!model->node || model->condition != PAGE_FINE)
		return;
	spare = ksm_chain_alloc(GFP_KERNEL);
	if (!spare)
		return;
	if (insert(model, to, model->node, &spare) == KSM_FOUND) {
		unchain(model);
		model->nid = to;
		mark_chained(model);
	}
	ksm_chain_free(spare);
}

/* Look for contents, and have a page join the node with them */
static void find(void)
{
	unsigned int nid = fuzz_below(NIDS), digest = fuzz_below(DIGESTS);
	unsigned int contents = fuzz_below(CONTENTS);
	unsigned int page = fuzz_below(PAGES);
	unsigned int there = count_nodes(nid, digest, contents);
	struct ksm_stable_node *node = NULL;
	enum ksm_found found;

	found = ksm_stable_find(nid, digests[digest], compare, &contents, &node);
	switch (found) {
	case KSM_FOUND:
	case KSM_FULL:
		check_node(node, nid, digest, contents);
		must(model_of(node)->condition == PAGE_FINE);
		must((found == KSM_FOUND) == any_room(nid, digest, contents));
		break;
	case KSM_ABSENT:
		must(!there);
		break;
	default:
		check_obstacle(found, node, nid, digest);
		break;
	}
	if (found == KSM_FOUND && page % 4)
		join(page, model_of(node));
}

/* A page that has gone does not come back */
static void change_condition(void)
{
	struct node_model *node = &nodes[fuzz_below(NODES)];
	enum condition condition = fuzz_below(3);

	if (node->condition != PAGE_GONE)
		node->condition = condition;
}

static void tidy(void)
{
	struct node_model *node = &nodes[fuzz_below(NODES)];

	if (!node->node || node->node->entry.kind != KSM_DUP)
		return;
	ksm_chain_tidy(node->node->entry.chain);
	unchain(node);
}

/* The settings that trees are made for change only while there are no nodes */
static void set_knob(void)
{
	unsigned int most = 2 + fuzz_below(4);

	if (!ksm_stats.nodes)
		ksm_knobs.max_page_sharing = most;
}

static void check_from(void)
{
	unsigned int nid = fuzz_below(NIDS), i;
	u64 digest = digests[fuzz_below(DIGESTS)] + fuzz_below(2);
	struct ksm_entry *entry = ksm_stable_from(nid, digest);

	for (i = 0; i < DIGESTS; i++) {
		if (digests[i] >= digest && count_entries(nid, i))
			break;
	}
	must(!entry == (i == DIGESTS));
	must(!entry || entry->digest == digests[i]);
}

/* ------------------------------------------------------------------ */

/* What a sweep does for the filter */
static void list_entries(void)
{
	struct ksm_entry *entry;
	unsigned int nid;

	for (nid = 0; nid < NIDS; nid++) {
		for (entry = ksm_stable_from(nid, 0); entry;
		     entry = ksm_stable_next(entry))
			ksm_stable_list(entry);
	}
}

static void change_filter(void)
{
	switch (fuzz_below(3)) {
	case 0:
		ksm_filter_fit(0);
		break;
	case 1:
		ksm_filter_fit(1 + fuzz_u8() * 4);
		break;
	case 2:
		ksm_filter_renew();
		break;
	}
}

static void do_step(int kind)
{
	switch (kind) {
	case 0:
	case 1:
		add_node();
		break;
	case 2:
		find();
		break;
	case 3:
		leave(fuzz_below(PAGES));
		break;
	case 4:
		change_condition();
		break;
	case 5:
		drop_node(&nodes[fuzz_below(NODES)]);
		break;
	case 6:
		move_node();
		break;
	case 7:
		tidy();
		break;
	case 8:
		set_knob();
		break;
	case 9:
		change_filter();
		break;
	case 10:
		list_entries();
		break;
	case 11:
		check_from();
		break;
	case 12:
		add_candidate();
		break;
	case 13:
		drop_candidate(fuzz_below(PAGES));
		break;
	case 14:
		write_to_candidate();
		break;
	}
}

static void drop_everything(void)
{
	struct ksm_block *block;
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		drop_candidate(i);
		leave(i);
	}
	for (i = 0; i < NODES; i++)
		drop_node(&nodes[i]);
	block = ksm_block_find(fuzz_owner(0), 0);
	if (block)
		ksm_block_free(fuzz_owner(0), block);
}

int fuzz_one_input(const u8 *data, size_t size)
{
	int kind;

	fuzz_begin(data, size);
	while ((kind = fuzz_step(15)) >= 0) {
		do_step(kind);
		check_all();
	}
	drop_everything();
	check_all();
	fuzz_end();
	return 0;
}
