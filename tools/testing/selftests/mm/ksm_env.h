/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The machine around KSM, for the selftests that need more of it than
 * ksm_util.h knows: swap space, a memory cgroup, NUMA nodes, settings that
 * are not KSM's own, and puppets: child processes that hold mergeable memory
 * and run a function of the test when told to.
 *
 * What main() sets up here it also takes down when the program ends, however
 * its tests ended.  As in ksm_util.h no helper ends the process.
 *
 * Include kselftest_harness.h and ksm_util.h first.
 */
#ifndef KSM_ENV_H
#define KSM_ENV_H

#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#ifndef MADV_FREE
#define MADV_FREE		8
#endif
#ifndef MADV_COLD
#define MADV_COLD		20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_HWPOISON
#define MADV_HWPOISON		100
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

/* ---- settings outside of KSM's directory --------------------------------- */

#define KSM_NR_KEPT	16

struct ksm_kept {
	char path[128];
	char text[128];
};

struct ksm_zram {
	int id;			/* number of the device, -1 when there is none */
	bool made_node;
	char dev[64];
};

/* All that is set up by main() and taken down at its end. */
struct ksm_env {
	pid_t pid;			/* of main() */
	long long zero_pages;		/* that were counted before */
	struct ksm_kept kept[KSM_NR_KEPT];
	int nr_kept;
	struct ksm_zram swap;		/* our own swap, if it had to be made */
	const char *no_swap;		/* why there is no swap, or NULL */
	char cg_root[128];		/* where cgroup2 is */
	char cg[256];			/* our own group */
	bool cg_mounted;
	bool cg_enabled;
	const char *no_cg;		/* why there is no group, or NULL */
};

static inline struct ksm_env *ksm_env(void)
{
	static struct ksm_env env = {
		.swap.id = -1,
		.no_swap = "swap was not set up",
		.no_cg = "the memory cgroup was not set up",
	};

	return &env;
}

/* Write a text to a file of /sys or /proc; 0 or -errno. */
static inline int ksm_put(const char *path, const char *text)
{
	return ksm_spit(path, text, strlen(text));
}

static inline int ksm_put_num(const char *path, long long val)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", val);
	return ksm_put(path, text);
}

static inline long long ksm_read_num(const char *path)
{
	char buf[64], *end;
	long long val;

	if (ksm_slurp(path, buf, sizeof(buf)) <= 0)
		return KSM_BAD;
	val = strtoll(buf, &end, 0);
	return end == buf ? KSM_BAD : val;
}

/* Current text of a setting; of "a [b] c" only the chosen word. */
static inline int ksm_setting(const char *path, char *buf, size_t size)
{
	char text[256], *from, *to;
	int ret;

	ret = ksm_slurp(path, text, sizeof(text));
	if (ret < 0)
		return ret;
	from = strchr(text, '[');
	to = from ? strchr(from, ']') : NULL;
	if (to) {
		*to = '\0';
		from++;
	} else {
		from = text;
	}
	return snprintf(buf, size, "%s", from) < (int)size ? 0 : -E2BIG;
}

/* Put back every file that ksm_keep() was told of; 0 or the first error. */
static inline int ksm_keep_restore(void)
{
	struct ksm_env *env = ksm_env();
	char now[128];
	int i, ret, first = 0;

	for (i = 0; i < env->nr_kept; i++) {
		struct ksm_kept *k = &env->kept[i];

		if (!ksm_setting(k->path, now, sizeof(now)) &&
		    !strcmp(now, k->text))
			continue;
		ret = ksm_put(k->path, k->text);
		if (ret) {
			fprintf(stderr, "# cannot restore %s to %s: %s\n",
				k->path, k->text, strerror(-ret));
			first = first ? first : ret;
		}
	}
	return first;
}

/*
 * Remember what a file says, for ksm_keep_restore() and for the end of the
 * program.  For main(), before the tests.  A file that is not there is no
 * error: then nothing will be written to it either.
 */
static inline void ksm_keep(const char *path)
{
	struct ksm_env *env = ksm_env();
	struct ksm_kept *k = &env->kept[env->nr_kept];

	if (env->nr_kept == KSM_NR_KEPT || strlen(path) >= sizeof(k->path))
		return;
	snprintf(k->path, sizeof(k->path), "%s", path);
	if (!ksm_setting(path, k->text, sizeof(k->text)))
		env->nr_kept++;
}

/* ---- swap and other disks in memory -------------------------------------- */

#ifndef KSM_ZRAM_MIB
#define KSM_ZRAM_MIB	64
#endif

/* A new zram disk of KSM_ZRAM_MIB; 0 or -errno. */
static inline int ksm_zram_make(struct ksm_zram *z)
{
	char path[96], buf[32];
	unsigned int maj, min;
	int ret;

	z->id = -1;
	z->made_node = false;
	if (access("/sys/class/zram-control", F_OK) && !geteuid() &&
	    system("modprobe zram >/dev/null 2>&1"))
		return -ENODEV;
	ret = ksm_slurp("/sys/class/zram-control/hot_add", buf, sizeof(buf));
	if (ret < 0)
		return ret;
	z->id = atoi(buf);
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", z->id);
	ret = ksm_put_num(path, (long long)KSM_ZRAM_MIB << 20);
	if (ret)
		return ret;
	snprintf(z->dev, sizeof(z->dev), "/dev/zram%d", z->id);
	if (ksm_wait_for(!access(z->dev, F_OK), 1))
		return 0;
	snprintf(path, sizeof(path), "/sys/block/zram%d/dev", z->id);
	if (ksm_slurp(path, buf, sizeof(buf)) < 0 ||
	    sscanf(buf, "%u:%u", &maj, &min) != 2)
		return -ENODEV;
	snprintf(z->dev, sizeof(z->dev), "/tmp/ksm-zram%d", z->id);
	if (mknod(z->dev, S_IFBLK | 0600, makedev(maj, min)))
		return -errno;
	z->made_node = true;
	return 0;
}

static inline void ksm_zram_drop(struct ksm_zram *z)
{
	char path[96];

	if (z->id < 0)
		return;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", z->id);
	ksm_wait_for(!ksm_put(path, "1"), 5);
	if (z->made_node)
		unlink(z->dev);
	if (ksm_put_num("/sys/class/zram-control/hot_remove", z->id))
		fprintf(stderr, "# cannot remove zram%d\n", z->id);
	z->id = -1;
}

/*
 * What mkswap(8) writes: the header in the first page, with the size in
 * pages less one, and the magic word at its end.
 */
static inline int ksm_mkswap(const char *dev, unsigned int pages)
{
	size_t psize = ksm_psize();
	uint32_t *info;
	char *page;
	int fd, ret = 0;

	page = calloc(1, psize);
	if (!page)
		return -ENOMEM;
	info = (uint32_t *)(page + 1024);
	info[0] = 1;			/* version */
	info[1] = pages - 1;		/* last page */
	info[2] = 0;			/* bad pages */
	memcpy(page + psize - 10, "SWAPSPACE2", 10);
	fd = open(dev, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		ret = -errno;
	else if (write(fd, page, psize) != (ssize_t)psize || fsync(fd))
		ret = -EIO;
	if (fd >= 0)
		close(fd);
	free(page);
	return ret;
}

/* Before any other swap space: pages go here as long as there is room. */
#define KSM_SWAP_FIRST	(SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK)

/* Is there at least as much free swap as our own would have? */
static inline bool ksm_swap_is_there(void)
{
	return ksm_proc_num(0, "../meminfo", "SwapFree") >=
		KSM_ZRAM_MIB * 1024LL - 1024;
}

static inline int ksm_swap_on(void)
{
	struct ksm_zram *z = &ksm_env()->swap;

	if (z->id < 0)
		return -ENODEV;
	return swapon(z->dev, KSM_SWAP_FIRST) ? -errno : 0;
}

static inline int ksm_swap_off(void)
{
	struct ksm_zram *z = &ksm_env()->swap;

	if (z->id < 0)
		return -ENODEV;
	return swapoff(z->dev) ? -errno : 0;
}

static inline void ksm_swap_drop(void)
{
	if (ksm_env()->swap.id < 0)
		return;
	ksm_swap_off();
	ksm_zram_drop(&ksm_env()->swap);
}

/* Swap of our own; without zram that of the machine must do. */
static inline void ksm_swap_make(void)
{
	struct ksm_env *env = ksm_env();

	env->no_swap = NULL;
	if (!ksm_zram_make(&env->swap) &&
	    !ksm_mkswap(env->swap.dev, (KSM_ZRAM_MIB << 20) / ksm_psize()) &&
	    !ksm_swap_on())
		return;
	ksm_zram_drop(&env->swap);
	if (!ksm_swap_is_there())
		env->no_swap = "no swap, and no zram to make some";
}

/* ---- a memory cgroup ----------------------------------------------------- */

/* Where cgroup2 is mounted; mounts it when it is nowhere. */
static inline int ksm_cg_find(void)
{
	char dir[128], type[32], line[512];
	struct ksm_env *env = ksm_env();
	FILE *f;

	f = fopen("/proc/self/mounts", "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %127s %31s", dir, type) == 2 &&
		    !strcmp(type, "cgroup2")) {
			snprintf(env->cg_root, sizeof(env->cg_root), "%s",
				 dir);
			break;
		}
	fclose(f);
	if (env->cg_root[0])
		return 0;
	snprintf(dir, sizeof(dir), "/tmp/ksm-cgroup-%d", getpid());
	if (mkdir(dir, 0700))
		return -errno;
	if (mount("none", dir, "cgroup2", 0, NULL)) {
		rmdir(dir);
		return -errno;
	}
	snprintf(env->cg_root, sizeof(env->cg_root), "%s", dir);
	env->cg_mounted = true;
	return 0;
}

static inline int ksm_cg_put(const char *cg, const char *name,
			     const char *text)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", cg, name);
	return ksm_put(path, text);
}

static inline long long ksm_cg_num(const char *cg, const char *name)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/%s", cg, name);
	return ksm_read_num(path);
}

/* Number after @key in a file of lines "key value" of a group. */
static inline long long ksm_cg_key(const char *cg, const char *name,
				   const char *key)
{
	char path[512], buf[64];
	long long val = KSM_BAD;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", cg, name);
	f = fopen(path, "re");
	if (!f)
		return KSM_BAD;
	if (!ksm_find_line(f, key, buf, sizeof(buf)))
		val = atoll(buf);
	fclose(f);
	return val;
}

/* Move the caller into a group. */
static inline int ksm_cg_join(const char *cg)
{
	return ksm_cg_put(cg, "cgroup.procs", "0");
}

static inline int ksm_cg_rmdir(const char *cg)
{
	return ksm_wait_for(!rmdir(cg) || errno == ENOENT, 5) ? 0 : -EBUSY;
}

/* Groups that a test which died has left behind. */
static inline void ksm_cg_drop_extras(void)
{
	struct ksm_env *env = ksm_env();
	const char *own = strrchr(env->cg, '/');
	char path[512];
	struct dirent *de;
	DIR *dir;

	dir = own ? opendir(env->cg_root) : NULL;
	if (!dir)
		return;
	while ((de = readdir(dir)))
		if (!strncmp(de->d_name, own + 1, strlen(own + 1)) &&
		    strcmp(de->d_name, own + 1)) {
			snprintf(path, sizeof(path), "%.200s/%.200s",
				 env->cg_root, de->d_name);
			ksm_cg_rmdir(path);
		}
	closedir(dir);
}

static inline void ksm_cg_drop(void)
{
	struct ksm_env *env = ksm_env();

	ksm_cg_drop_extras();
	if (env->cg[0] && ksm_cg_rmdir(env->cg))
		fprintf(stderr, "# cannot remove %s\n", env->cg);
	env->cg[0] = '\0';
	if (env->cg_enabled)
		ksm_cg_put(env->cg_root, "cgroup.subtree_control", "-memory");
	if (env->cg_mounted && !umount(env->cg_root))
		rmdir(env->cg_root);
	env->cg_enabled = false;
	env->cg_mounted = false;
}

/* Is a word in the list that a file of a group shows? */
static inline bool ksm_cg_lists(const char *cg, const char *name,
				const char *word)
{
	char path[512], buf[256], *w, *save;

	snprintf(path, sizeof(path), "%s/%s", cg, name);
	if (ksm_slurp(path, buf, sizeof(buf)) < 0)
		return false;
	for (w = strtok_r(buf, " ", &save); w;
	     w = strtok_r(NULL, " ", &save))
		if (!strcmp(w, word))
			return true;
	return false;
}

static inline void ksm_cg_make(void)
{
	struct ksm_env *env = ksm_env();
	char path[512];

	if (ksm_cg_find()) {
		env->no_cg = "no cgroup2";
		return;
	}
	if (!ksm_cg_lists(env->cg_root, "cgroup.subtree_control", "memory")) {
		if (ksm_cg_put(env->cg_root, "cgroup.subtree_control",
			       "+memory")) {
			env->no_cg = "no memory controller in cgroup2";
			return;
		}
		env->cg_enabled = true;
	}
	snprintf(env->cg, sizeof(env->cg), "%.200s/ksm-test-%d",
		 env->cg_root, getpid());
	snprintf(path, sizeof(path), "%s/memory.reclaim", env->cg);
	if (mkdir(env->cg, 0755)) {
		env->cg[0] = '\0';
		env->no_cg = "cannot make a memory cgroup";
	} else if (access(path, W_OK)) {
		env->no_cg = "memory cgroups without memory.reclaim";
	} else {
		env->no_cg = NULL;
	}
}

/*
 * A second group beside our own; to be removed with ksm_cg_rmdir() by the
 * fixture, when nobody is in it any more.  0 or -errno.
 */
static inline int ksm_cg_extra(const char *name, char *path, size_t size)
{
	struct ksm_env *env = ksm_env();

	if (env->no_cg)
		return -ENODEV;
	if (snprintf(path, size, "%s-%s", env->cg, name) >= (int)size)
		return -ENAMETOOLONG;
	return mkdir(path, 0755) ? -errno : 0;
}

/*
 * Ask reclaim for all of the group once, @swappiness 0 (files and lazily
 * freed pages) to 200 (other anonymous pages).  How far it came is for the
 * caller to see.
 */
static inline void ksm_cg_reclaim(const char *cg, int swappiness)
{
	long long bytes = ksm_cg_num(cg, "memory.current");
	char text[64];

	if (bytes < 1 << 20)
		bytes = 1 << 20;
	snprintf(text, sizeof(text), "%lld swappiness=%d", bytes, swappiness);
	if (ksm_cg_put(cg, "memory.reclaim", text) == -EINVAL) {
		snprintf(text, sizeof(text), "%lld", bytes);
		ksm_cg_put(cg, "memory.reclaim", text);
	}
}

/* Reclaim anonymous memory of our group until a condition holds. */
#define ksm_reclaim_until(cond)						\
	ksm_wait_for((ksm_cg_reclaim(ksm_env()->cg, 200), (cond)),	\
		     KSM_WAIT_SECS)

/* ---- NUMA nodes ---------------------------------------------------------- */

#define KSM_MAX_NODES		64
#define KSM_MPOL_DEFAULT	0
#define KSM_MPOL_BIND		2
#define KSM_MOVE_ALL		4	/* MPOL_MF_MOVE_ALL */

/* Nodes with memory, in order; how many. */
static inline int ksm_nodes(int *nodes, int max)
{
	char buf[128], *p = buf;
	int nr = 0;
	long a, b;

	if (ksm_slurp("/sys/devices/system/node/has_memory", buf,
		      sizeof(buf)) <= 0)
		return 0;
	while (*p) {
		a = strtol(p, &p, 10);
		b = *p == '-' ? strtol(p + 1, &p, 10) : a;
		for (; a <= b && nr < max; a++)
			nodes[nr++] = (int)a;
		if (*p == ',')
			p++;
		else
			break;
	}
	return nr;
}

static inline int ksm_bind(void *p, size_t npages, int mode, int node)
{
	unsigned long mask = mode == KSM_MPOL_DEFAULT ? 0 : 1UL << node;

	return syscall(SYS_mbind, p, npages * ksm_psize(), mode,
		       mask ? &mask : NULL, mask ? KSM_MAX_NODES + 1 : 0, 0) ?
		-errno : 0;
}

/* Let the caller run on the processors of one node only; 0 or -errno. */
static inline int ksm_run_on(int node)
{
	char path[96], buf[256], *p = buf;
	cpu_set_t set;
	long a, b;

	snprintf(path, sizeof(path),
		 "/sys/devices/system/node/node%d/cpulist", node);
	if (ksm_slurp(path, buf, sizeof(buf)) <= 0)
		return -ENODEV;
	CPU_ZERO(&set);
	while (*p) {
		a = strtol(p, &p, 10);
		b = *p == '-' ? strtol(p + 1, &p, 10) : a;
		for (; a <= b; a++)
			CPU_SET(a, &set);
		if (*p++ != ',')
			break;
	}
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/* Node of a page of a process, or -errno as move_pages(2) states it. */
static inline int ksm_node_of(pid_t pid, const void *addr)
{
	const void *pages[1] = { addr };
	int status = -EIO;

	if (syscall(SYS_move_pages, pid, 1, pages, NULL, &status, 0) < 0)
		return -errno;
	return status;
}

/*
 * Move pages of a process, and whatever else maps them, to @node; how many
 * of them are there now, or -errno.
 */
static inline int ksm_move(pid_t pid, char *p, size_t npages, int node)
{
	void **pages = calloc(npages, sizeof(*pages));
	int *nodes = calloc(npages, sizeof(*nodes));
	int *status = calloc(npages, sizeof(*status));
	int there = -ENOMEM;
	size_t i;

	if (pages && nodes && status) {
		for (i = 0; i < npages; i++) {
			pages[i] = p + i * ksm_psize();
			nodes[i] = node;
			status[i] = -EIO;
		}
		if (syscall(SYS_move_pages, pid, npages, pages, nodes, status,
			    KSM_MOVE_ALL) < 0) {
			there = -errno;
		} else {
			/* Pages that were there already say so, too. */
			for (i = 0, there = 0; i < npages; i++)
				there += status[i] == node;
		}
	}
	free(pages);
	free(nodes);
	free(status);
	return there;
}

/* ---- userfaultfd --------------------------------------------------------- */

/* A descriptor with these features for kernel and user faults, or -errno. */
static inline int ksm_uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd, err;

	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

static inline int ksm_uffd_register(int fd, void *p, size_t npages,
				    uint64_t mode)
{
	struct uffdio_register reg = {
		.range.start = (unsigned long)p,
		.range.len = npages * ksm_psize(),
		.mode = mode,
	};

	return ioctl(fd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

/* Write-protect pages, or take that away and wake who waits for it. */
static inline int ksm_uffd_protect(int fd, void *p, size_t npages, bool on)
{
	struct uffdio_writeprotect wp = {
		.range.start = (unsigned long)p,
		.range.len = npages * ksm_psize(),
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(fd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

/* ---- puppets ------------------------------------------------------------- */

#define KSM_ACT_PAGES	1024

/*
 * The part of a puppet that it shares with the test: the function to run,
 * its area and the model of what the area holds, one seed a page.
 */
struct ksm_act {
	int (*fn)(struct ksm_act *act);
	char *area;
	size_t n;
	long arg[4];
	uint64_t model[KSM_ACT_PAGES];
};

struct ksm_puppet {
	struct ksm_child c;
	struct ksm_act *act;
	const char *cg;		/* the group it lives in, or NULL */
};

static inline int ksm_puppet_main(struct ksm_child *c)
{
	struct ksm_puppet *p = c->arg;
	int cmd, ret = 0;

	if (p->cg)
		ret = ksm_cg_join(p->cg);
	if (ksm_say(c, ret) || ret)
		return 1;
	while (!ksm_hear(c, &cmd) && cmd)
		if (ksm_say(c, p->act->fn(p->act)))
			return 1;
	return 0;
}

/* Start a puppet, in memory cgroup @cg unless that is NULL; 0 or -errno. */
static inline int ksm_puppet_start(struct ksm_puppet *p, const char *cg)
{
	int ret, joined;

	memset(p, 0, sizeof(*p));
	p->cg = cg;
	p->act = mmap(NULL, sizeof(*p->act), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p->act == MAP_FAILED) {
		p->act = NULL;
		return -ENOMEM;
	}
	signal(SIGPIPE, SIG_IGN);	/* a dead puppet is no reason to die */
	ret = ksm_spawn(&p->c, ksm_puppet_main, p);
	if (!ret)
		ret = ksm_hear(&p->c, &joined);
	return ret ? ret : joined;
}

/* Let the puppet run a function; what that returned, or a negative errno. */
static inline int ksm_do(struct ksm_puppet *p, int (*fn)(struct ksm_act *act))
{
	p->act->fn = fn;
	return ksm_ask(&p->c, 1);
}

static inline int ksm_do1(struct ksm_puppet *p,
			  int (*fn)(struct ksm_act *act), long arg)
{
	p->act->arg[0] = arg;
	return ksm_do(p, fn);
}

static inline int ksm_do2(struct ksm_puppet *p,
			  int (*fn)(struct ksm_act *act), long a, long b)
{
	p->act->arg[1] = b;
	return ksm_do1(p, fn, a);
}

/* The same in two halves, to let several puppets run at once. */
static inline int ksm_do_begin(struct ksm_puppet *p,
			       int (*fn)(struct ksm_act *act))
{
	p->act->fn = fn;
	return ksm_say(&p->c, 1);
}

static inline int ksm_do_end(struct ksm_puppet *p)
{
	int ret, answer;

	ret = ksm_hear(&p->c, &answer);
	return ret ? ret : answer;
}

/* Tell the puppet to go; its exit code as from ksm_reap(). */
static inline int ksm_puppet_end(struct ksm_puppet *p)
{
	int ret;

	if (p->c.pid <= 0)
		return -ECHILD;
	ksm_say(&p->c, 0);
	ret = ksm_reap(&p->c);
	munmap(p->act, sizeof(*p->act));
	p->act = NULL;
	return ret;
}

static inline void ksm_puppet_kill(struct ksm_puppet *p)
{
	if (p->c.pid <= 0)
		return;
	ksm_kill(&p->c);
	munmap(p->act, sizeof(*p->act));
	p->act = NULL;
}

/* ---- functions for puppets, and what the test can see of them ------------ */

/* A seed that tells whose page, which page and which version. */
static inline uint64_t ksm_stamp(unsigned int owner, unsigned int index,
				 unsigned int version)
{
	return (uint64_t)owner << 48 | (uint64_t)index << 24 | version;
}

/* Fill the area from the model. */
static inline int ksm_act_fill(struct ksm_act *a)
{
	size_t i;

	for (i = 0; i < a->n; i++)
		ksm_fill(a->area + i * ksm_psize(), a->model[i]);
	return 0;
}

/* Map @n pages, fill them from the model, mark them mergeable. */
static inline int ksm_act_map(struct ksm_act *a)
{
	a->area = ksm_map(a->n);
	if (!a->area)
		return -ENOMEM;
	ksm_act_fill(a);
	return ksm_mergeable(a->area, a->n);
}

static inline int ksm_act_unmap(struct ksm_act *a)
{
	ksm_unmap(a->area, a->n);
	return 0;
}

/* Number of pages that are not what the model says. */
static inline int ksm_act_check(struct ksm_act *a)
{
	int bad = 0;
	size_t i;

	for (i = 0; i < a->n; i++)
		if (!ksm_is(a->area + i * ksm_psize(), a->model[i])) {
			if (!bad++)
				fprintf(stderr,
					"# %d: page %zu is not %llx, starts %llx\n",
					getpid(), i,
					(unsigned long long)a->model[i],
					*(unsigned long long *)
					(a->area + i * ksm_psize()));
		}
	return bad;
}

/* Page arg[0] gets content arg[1]. */
static inline int ksm_act_write(struct ksm_act *a)
{
	a->model[a->arg[0]] = (uint64_t)a->arg[1];
	ksm_fill(a->area + (size_t)a->arg[0] * ksm_psize(),
		 a->model[a->arg[0]]);
	return 0;
}

/* madvise() of the whole area. */
static inline int ksm_act_advise(struct ksm_act *a)
{
	return ksm_advise(a->area, a->n, (int)a->arg[0]);
}

/*
 * Start a puppet with @n mergeable pages, page i with content
 * stamp(owner, i * step, version): equal owners and versions are twins, and
 * with @step 0 all pages of the area are.
 */
static inline int ksm_puppet_with(struct ksm_puppet *p, const char *cg,
				  size_t n, unsigned int owner,
				  unsigned int step)
{
	size_t i;
	int ret;

	ret = ksm_puppet_start(p, cg);
	if (ret)
		return ret;
	p->act->n = n;
	for (i = 0; i < n; i++)
		p->act->model[i] = ksm_stamp(owner, (unsigned int)i * step, 1);
	return ksm_do(p, ksm_act_map);
}

static inline uint64_t ksm_page_entry(struct ksm_puppet *p, size_t i)
{
	return ksm_pagemap(p->c.pid, p->act->area + i * ksm_psize());
}

/* Number of pages of the puppet that are in swap. */
static inline long ksm_nr_swapped(struct ksm_puppet *p)
{
	long nr = 0;
	size_t i;

	for (i = 0; i < p->act->n; i++)
		nr += !!(ksm_page_entry(p, i) & PM_SWAPPED);
	return nr;
}

/* Number of pages of the puppet's area that smaps calls merged. */
static inline long ksm_nr_ksm(struct ksm_puppet *p)
{
	long long kb = ksm_smaps_kb(p->c.pid, p->act->area, "KSM");

	return kb < 0 ? -1 : (long)(kb * 1024) / (long)ksm_psize();
}

/* Number of places at which two puppets have one present frame. */
static inline long ksm_nr_common(struct ksm_puppet *p, struct ksm_puppet *q)
{
	long nr = 0;
	uint64_t e;
	size_t i;

	for (i = 0; i < p->act->n && i < q->act->n; i++) {
		e = ksm_page_entry(p, i);
		nr += (e & PM_PRESENT) && PM_PFN(e) &&
			PM_PFN(e) == PM_PFN(ksm_page_entry(q, i));
	}
	return nr;
}

/* Move all pages of the puppet to @node, trying for a while; 0 or -errno. */
static inline int ksm_move_all(struct ksm_puppet *p, int node)
{
	double end = ksm_now() + 10;
	int there, n = (int)p->act->n;

	do {
		there = ksm_move(p->c.pid, p->act->area, p->act->n, node);
		if (there == n)
			return 0;
		ksm_nap_us(2000);
	} while (ksm_now() < end);
	fprintf(stderr, "# %d of %d pages moved to node %d\n", there, n, node);
	return there < 0 ? there : -EBUSY;
}

/* ---- the end of all ------------------------------------------------------ */

/*
 * Zero pages placed since main() began: some kernels lose count of them, and
 * the test that shows it shall not make all others fail.
 */
static inline long long ksm_zero_placed(void)
{
	return ksm_get("ksm_zero_pages") - ksm_env()->zero_pages;
}

/* With the last owner gone and ksmd running, all of these come to 0. */
static inline bool ksm_pages_all_zero(void)
{
	struct ksm_counters c;

	ksm_count(&c);
	return !c.shared && !c.sharing && !c.unshared && !c.vol &&
		!ksm_zero_placed();
}

/* And these at the latest after run=2. */
static inline bool ksm_all_zero(void)
{
	return ksm_pages_all_zero() && !ksm_get("stable_node_chains") &&
		!ksm_get("stable_node_dups");
}

#define KSM_WITH_SWAP	1
#define KSM_WITH_CGROUP	2

static inline void ksm_env_drop(void)
{
	if (getpid() != ksm_env()->pid)
		return;
	ksm_keep_restore();
	ksm_swap_drop();
	ksm_cg_drop();
}

static inline void ksm_env_signal(int sig)
{
	ksm_env_drop();
	ksm_main_signal(sig);
}

/* For main(), after ksm_main_setup(); ksm_keep() may follow. */
static inline void ksm_env_make(int what)
{
	if (geteuid())
		return;
	ksm_env()->pid = getpid();
	ksm_env()->zero_pages = ksm_get("ksm_zero_pages");
	atexit(ksm_env_drop);
	signal(SIGINT, ksm_env_signal);
	signal(SIGTERM, ksm_env_signal);
	signal(SIGHUP, ksm_env_signal);
	if (what & KSM_WITH_SWAP)
		ksm_swap_make();
	if (what & KSM_WITH_CGROUP)
		ksm_cg_make();
}

/* NULL when KSM can be driven and all that is there, else the reason. */
static inline const char *ksm_env_missing(int what)
{
	const char *why = ksm_missing();

	if (!why && (what & KSM_WITH_SWAP))
		why = ksm_env()->no_swap;
	if (!why && (what & KSM_WITH_CGROUP))
		why = ksm_env()->no_cg;
	return why;
}

#endif /* KSM_ENV_H */
