/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * /dev/xeno: what this domain used of the machine, and CPU time for it.
 *
 *   read()                 lines of a name and a number, all there is about the domain
 *   mmap()                 the hypervisor's own accounts of the domain, to read without a call: struct xeno_usage_head
 *   XENO_IOC_USAGE         the same for programs: of the domain, or of a vCPU
 *   XENO_IOC_SCHED_RULES   what holds for reservations of CPU time on this machine
 *   XENO_IOC_SCHED_GET     what CPU time a vCPU of the domain has reserved
 *   XENO_IOC_SCHED_SET     asks for another reservation (CAP_SYS_ADMIN)
 *
 * The structures are the hypervisor's own, without a change: of those for calls the fields that are marked "in" are
 * read, the others are written. The domain is always the one that asks: `domid` is XENO_DOMID_SELF. All reserved bytes come
 * back as zero.
 *
 * Times of usage are cycles of the time-stamp counter, counters grow modulo 2^64 and are never set back. Times of
 * reservations are nanoseconds.
 */
#ifndef _UAPI_XENO_H
#define _UAPI_XENO_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The interface that this header describes: the first field of each structure. */
#define XENO_INTERFACE_VERSION 1

/* The domain that asks. */
#define XENO_DOMID_SELF 0x7ff0

/* In xeno_usage.vcpu: the whole domain. */
#define XENO_USAGE_OF_DOMAIN 0xffffffffU
/* In xeno_usage.vcpu: what was done for the domain while none of its vCPUs was in hand. */
#define XENO_USAGE_BESIDES 0xfffffffeU
/* In xeno_usage.cpu: none. */
#define XENO_USAGE_NO_CPU 0xffffffffU

/* Places in xeno_usage.hypervisor: why the hypervisor worked. */
#define XENO_CAUSE_CALL 0
#define XENO_CAUSE_FAULT 1
#define XENO_CAUSE_INTERRUPT 2
#define XENO_CAUSE_TIMER 3
#define XENO_CAUSE_DEVICE 4
#define XENO_CAUSE_SWITCH 5
#define XENO_CAUSES 6

/* What a domain or a vCPU used. */
struct xeno_usage {
	__u32 version;			/* in */
	__u16 domid;			/* in: XENO_DOMID_SELF; out: its number */
	__u16 _pad0;
	__u32 vcpu;			/* in: a vCPU's number, or XENO_USAGE_* */
	__u32 cpu;			/* the CPU that has the vCPU in hand */
	__u64 tsc_hz;			/* cycles a second */
	__u64 at;			/* when this was read, in cycles */
	__u64 open_since;		/* of a vCPU in hand: up to when the rest is; otherwise 0 */
	__u64 user;			/* in applications */
	__u64 kernel;			/* in the kernel */
	__u64 hypervisor[XENO_CAUSES];	/* in the hypervisor */
	__u64 guaranteed;		/* of all these: in reserved time */
	__u64 extra;			/* in time nobody had reserved */
	__u64 elsewhere;		/* while none of the domain's vCPUs was in hand */
	__u64 stolen;			/* not among these: could run and did not */
	__u64 switches;			/* how often a CPU was given to a vCPU */
	/* Of the domain alone: */
	__u64 frames;			/* memory, in frames of 4 KiB */
	__u64 frames_peak;
	__u64 frame_cycles[2];		/* frames times cycles: the lower half, the upper */
	__u64 overhead;			/* the hypervisor's frames because of the domain */
	__u64 overhead_peak;
	__u64 overhead_cycles[2];
	__u64 books;			/* which books of the machine were made last; 0 while others are made */
	__u64 books_used;		/* cycles used by those */
	/* Of a vCPU too, but for the last: */
	__u64 events_sent;		/* on its ports */
	__u64 events_received;		/* ports of its that became pending */
	__u64 grants_used;		/* grants that it mapped, granted ends of copies */
	__u64 grants_lent;		/* the same, of the domain's grants by whomever */
};

/*
 * The usage area: the accounts themselves, as the hypervisor keeps them, read-only. Map `nr_frames` pages of 4096 bytes
 * from offset 0 (the first alone tells how many). It begins with struct xeno_usage_head; vCPU n has a struct
 * xeno_usage_row at `rows_at` + n * `row_bytes`. Later versions may be longer and have longer rows.
 *
 *  - An aligned word of 8 bytes is right for itself at any time.
 *  - Words that follow a sequence number (of a row up to `extra`) belong together if the number is even, and the same
 *    before and after they are read; otherwise read again.
 *  - A vCPU is on a CPU while `cpu` is not XENO_AREA_NO_CPU: it has used the time-stamp counter less `open_since`
 *    besides, not cut up yet. It waits for one while the highest bit of `stolen` is set: then the time-stamp counter
 *    is to be added.
 */
#define XENO_AREA_MAGIC 0x316573556f6e6558ULL
#define XENO_AREA_VERSION 1
#define XENO_AREA_NO_CPU 0xffffU
/* In xeno_usage_row.flags: in time that was reserved for it. */
#define XENO_AREA_GUARANTEED (1U << 0)
/* In xeno_usage_row.terms: takes part in time that nobody reserved. */
#define XENO_AREA_EXTRA (1U << 0)

/* How much memory there was, and for how long. */
struct xeno_usage_held {
	__u32 seq;			/* odd while this is written */
	__u32 _pad0;
	__u64 now;			/* frames */
	__u64 peak;
	__u64 over_time[2];		/* frames times cycles until `until`: lower half, upper */
	__u64 until;			/* since then `now` for each cycle */
};

/* What is in no row. The fields are those of xeno_usage. */
struct xeno_usage_besides {
	__u64 user;
	__u64 kernel;
	__u64 hypervisor[XENO_CAUSES];
	__u64 guaranteed;
	__u64 extra;
	__u64 elsewhere;
	__u64 stolen;
	__u64 switches;
	__u64 events_sent;
	__u64 events_received;
	__u64 grants_used;
	__u64 grants_lent;
};

/* Traffic on the network: zero as yet. */
struct xeno_usage_traffic {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	__u64 drops[4];
};

/* The beginning of the usage area. */
struct xeno_usage_head {
	__u64 magic;			/* XENO_AREA_MAGIC */
	__u32 version;			/* XENO_AREA_VERSION */
	__u32 nr_frames;		/* pages of the area */
	__u64 serial;			/* which of all domains there ever were */
	__u64 tsc_hz;			/* cycles a second */
	__u16 domid;
	__u16 _pad0;
	__u32 nr_vcpus;			/* rows */
	__u32 rows_at;			/* bytes from here to the first row */
	__u32 row_bytes;		/* bytes from one row to the next */
	__u64 _reserved0[10];
	struct xeno_usage_held frames;	/* the domain's memory */
	struct xeno_usage_held overhead; /* the hypervisor's because of it */
	struct xeno_usage_besides besides;
	__u64 _reserved1[3];
	struct xeno_usage_traffic traffic;
	__u64 _reserved2[8];
};

/* A vCPU in the usage area. */
struct xeno_usage_row {
	__u32 seq;			/* odd while what follows is written, up to `extra` */
	__u16 cpu;			/* the CPU that it is on, or XENO_AREA_NO_CPU */
	__u16 flags;			/* XENO_AREA_GUARANTEED */
	__u64 open_since;		/* of one on a CPU: up to when the rest is */
	__u64 user;
	__u64 kernel;
	__u64 hypervisor[XENO_CAUSES];
	__u64 guaranteed;
	__u64 extra;
	__u64 switches;
	__u64 stolen;
	__u32 slice;			/* its reservation, in nanoseconds; 0: none */
	__u32 period;
	__u32 weight;
	__u32 terms;			/* XENO_AREA_EXTRA */
	__u64 events_sent;
	__u64 events_received;
	__u64 grants_used;
	__u64 _reserved;
};

/* In xeno_sched_get.vcpu and xeno_sched_set.vcpu: all vCPUs of the domain. */
#define XENO_SCHED_ALL_VCPUS 0xffffffffU
/* In xeno_sched_get.cpu: none in particular. */
#define XENO_SCHED_NO_CPU 0xffffffffU

/* In xeno_sched_terms.flags: takes part in time that nobody reserved, by weight. */
#define XENO_SCHED_EXTRA (1U << 0)
/* In xeno_sched_terms.flags: slice and period are numbers of the machine's quantum. */
#define XENO_SCHED_IN_QUANTA (1U << 1)

/* The weight of those who ask for none in particular, and the largest. */
#define XENO_SCHED_USUAL_WEIGHT 256
#define XENO_SCHED_LARGEST_WEIGHT 65535

/* In xeno_sched_set.refusal: granted, or why not, with the error of the call. */
#define XENO_SCHED_GRANTED 0
#define XENO_SCHED_REFUSED_PERIOD 1	/* ERANGE: the period is too short or too long */
#define XENO_SCHED_REFUSED_SLICE 2	/* EINVAL: the slice is longer than the period */
#define XENO_SCHED_REFUSED_TOO_SHORT 3	/* ERANGE: the slice is too short */
#define XENO_SCHED_REFUSED_NEVER_RUNS 4	/* EINVAL: neither a slice nor extra time */
#define XENO_SCHED_REFUSED_WEIGHT 5	/* EINVAL: no such weight */
#define XENO_SCHED_REFUSED_OVERFLOW 6	/* EOVERFLOW: so many quanta are no time */
#define XENO_SCHED_REFUSED_FLAGS 7	/* EINVAL: unknown flags, or such as exclude each other */
#define XENO_SCHED_REFUSED_NO_CPU 8	/* ENODEV: none of the vCPU's CPUs takes vCPUs */
#define XENO_SCHED_REFUSED_NO_ROOM 9	/* ENOSPC: largest_slice has the most there is */
#define XENO_SCHED_REFUSED_NOT_ALLOWED 10	/* EPERM: beyond what the domain may reserve for itself */

/* At least the slice in every period while it can run; at most that without XENO_SCHED_EXTRA. */
struct xeno_sched_terms {
	__u64 slice;
	__u64 period;
	__u32 weight;
	__u32 flags;
};

/* What holds for all reservations of the machine. */
struct xeno_sched_rules {
	__u32 version;			/* in */
	__u32 set;			/* in: 0 */
	__u64 quantum;
	__u64 section;			/* the longest that the hypervisor is not preempted */
	__u64 shortest_period;
	__u64 longest_period;
	__u32 reserve_ppm;		/* of each CPU, what nobody can reserve: millionths */
	__u32 nr_cpus;			/* CPUs that take vCPUs */
	__u64 _reserved[4];
};

/* What a vCPU has reserved. */
struct xeno_sched_get {
	__u32 version;			/* in */
	__u16 domid;			/* in: XENO_DOMID_SELF */
	__u16 _pad0;
	__u32 vcpu;			/* in */
	__u32 cpu;			/* where it is admitted */
	__u32 nr_vcpus;			/* vCPUs that were asked for */
	__u32 nr_alike;			/* those of them that have what is told */
	struct xeno_sched_terms terms;	/* in force */
	struct xeno_sched_terms coming;	/* granted, not in force yet; or zero */
	__u64 coming_at;		/* when, in system time, as far as is known */
	__u64 allowed;			/* what the domain may reserve: ns of each second, all vCPUs */
	__u32 allowed_weight;		/* and the largest weight with XENO_SCHED_EXTRA; 0: not that */
	__u32 _pad1;
	__u64 periods_from;		/* periods begin whole ones from here, in system time */
	__u64 _reserved;
};

/* Asks for other terms from the next period on: for all that are named, or for none. */
struct xeno_sched_set {
	__u32 version;			/* in */
	__u16 domid;			/* in: XENO_DOMID_SELF */
	__u16 _pad0;
	__u32 vcpu;			/* in */
	__u32 refusal;			/* XENO_SCHED_GRANTED or XENO_SCHED_REFUSED_* */
	struct xeno_sched_terms terms;	/* in */
	__u64 largest_slice;		/* refused for want of room, or not allowed: the most there is */
	__u64 largest_slice_soon;	/* and will be in a little more than a second */
	__u32 refused_vcpu;		/* the first that has no room */
	__u32 _pad1;
	__u64 in_force_at;		/* system time, as far as is known; 0: already */
	__u64 _reserved[3];
};

#define XENO_IOC_MAGIC 'x'
#define XENO_IOC_USAGE _IOWR(XENO_IOC_MAGIC, 0x60, struct xeno_usage)
#define XENO_IOC_SCHED_RULES _IOWR(XENO_IOC_MAGIC, 0x61, struct xeno_sched_rules)
#define XENO_IOC_SCHED_GET _IOWR(XENO_IOC_MAGIC, 0x62, struct xeno_sched_get)
#define XENO_IOC_SCHED_SET _IOWR(XENO_IOC_MAGIC, 0x63, struct xeno_sched_set)

#endif /* _UAPI_XENO_H */
