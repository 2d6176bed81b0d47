/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the module's files share: the way to the hypervisor.
 */
#ifndef _XENO_MODULE_H
#define _XENO_MODULE_H

#include "xeno.h"

/* Operations of the hypervisor's own hypercall. */
#define XENO_OP_USAGE 16
#define XENO_OP_USAGE_FRAME 18
#define XENO_OP_SCHED_RULES 24
#define XENO_OP_SCHED_GET 25
#define XENO_OP_SCHED_SET 26

/* Argument of XENO_OP_USAGE_FRAME: where a frame of the domain's usage area lies. */
struct xeno_usage_frame {
	__u32 version;			/* in */
	__u16 domid;			/* in */
	__u16 _pad0;
	__u32 index;			/* in: which frame, from 0 */
	__u32 nr_frames;		/* of the area */
	__u64 mfn;			/* the machine's frame */
	__u64 _reserved;
};

struct seq_file;

/*
 * Makes an operation. `arg` is kernel memory of the operation's structure. The answer is 0 or a negative error number
 * that programs may see.
 */
long xeno_op(unsigned int op, void *arg);

/* Shows what the domain used: a line for each number. */
int xeno_text_show(struct seq_file *out, void *unused);

/* Room for all that is shown. */
size_t xeno_text_size(void);

#endif /* _XENO_MODULE_H */
