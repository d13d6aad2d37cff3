// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * For a guest that cheats: writes its own grant table by hand. Linux takes a grant back only when
 * nobody has it mapped; Xen lets a guest write there what it likes.
 *
 *   echo "REF FLAGS DOMID FRAME_OF" >/sys/module/grant_entries/parameters/entry
 *
 * gives entry REF these flags (xen/grant_table.h: 0 is no grant, 1 a page that may be mapped) and
 * this domain, and the page of entry FRAME_OF (REF itself: its own).
 */
#include <linux/io.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <xen/interface/grant_table.h>
#include <xen/xen.h>

#define ENTRIES (PAGE_SIZE / sizeof(struct grant_entry_v1))	/* of its first page */

static struct grant_entry_v1 **shared;

static int write_entry(const char *text, const struct kernel_param *unused)
{
	unsigned int ref, flags, domid, frame_of;
	struct grant_entry_v1 *entry;

	if (sscanf(text, "%u %u %u %u", &ref, &flags, &domid, &frame_of) != 4 ||
	    ref >= ENTRIES || frame_of >= ENTRIES || flags > U16_MAX || domid > U16_MAX)
		return -EINVAL;
	entry = *shared + ref;
	entry->frame = (*shared)[frame_of].frame;
	entry->domid = domid;
	wmb();
	WRITE_ONCE(entry->flags, flags);
	return 0;
}

static int read_entry(char *text, const struct kernel_param *unused)
{
	unsigned int ref;
	int size = 0;

	for (ref = 0; ref < ENTRIES && size < PAGE_SIZE - 64; ref++) {
		const struct grant_entry_v1 *entry = *shared + ref;

		if (entry->flags)
			size += scnprintf(text + size, PAGE_SIZE - size, "%u %u %u\n", ref, entry->flags,
					  entry->domid);
	}
	return size;
}

static const struct kernel_param_ops entry_ops = { .set = write_entry, .get = read_entry };
module_param_cb(entry, &entry_ops, NULL, 0600);

/* The kernel's own pointer to the table, which no module is given. */
static int __init find_table(void)
{
	struct kprobe names = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long (*lookup)(const char *name);
	int failed;

	if (!xen_domain())
		return -ENODEV;
	failed = register_kprobe(&names);
	if (failed)
		return failed;
	lookup = (void *)names.addr;
	unregister_kprobe(&names);
	shared = (void *)lookup("gnttab_shared");
	return shared && *shared ? 0 : -ENOENT;
}
module_init(find_table);

static void __exit leave(void)
{
}
module_exit(leave);

MODULE_DESCRIPTION("a grant table written by hand, for tests");
MODULE_LICENSE("Dual MIT/GPL");
