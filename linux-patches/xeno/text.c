// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/xeno as text: one name and one number a line, so that a shell can use it.
 *
 * The domain comes first, without a prefix; then what was done for it beside its vCPUs ("besides-"), then each vCPU that
 * it has ("vcpu0-"). Each of these blocks is read by one operation and agrees within itself; they are read one
 * after the other, and "at" of each says when.
 */
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/math64.h>
#include <linux/seq_file.h>
#include <xen/xen-ops.h>

#include "module.h"

/* A line is a prefix of at most 9 letters, a name of at most 15, a space, 39 digits at most and its end. */
#define LINE_BYTES 72
/* Lines of the largest block. */
#define BLOCK_LINES 28

static const char *const causes[XENO_CAUSES] = {
	[XENO_CAUSE_CALL] = "call",
	[XENO_CAUSE_FAULT] = "fault",
	[XENO_CAUSE_INTERRUPT] = "interrupt",
	[XENO_CAUSE_TIMER] = "timer",
	[XENO_CAUSE_DEVICE] = "device",
	[XENO_CAUSE_SWITCH] = "switch",
};

static void line(struct seq_file *out, const char *prefix, const char *name,
		 u64 value)
{
	seq_printf(out, "%s%s %llu\n", prefix, name, value);
}

/* A number of 128 bits: nine decimal digits are split off at a time, from words of 32 bits. */
static void long_line(struct seq_file *out, const char *name, const __u64 halves[2])
{
	u32 words[4] = { halves[1] >> 32, halves[1], halves[0] >> 32, halves[0] };
	u32 digits[5];
	int parts = 0;
	bool more;

	do {
		u32 rest = 0;
		int i;

		more = false;
		for (i = 0; i < ARRAY_SIZE(words); i++) {
			u64 part = (u64)rest << 32 | words[i];

			words[i] = div_u64_rem(part, 1000000000, &rest);
			more |= words[i] != 0;
		}
		digits[parts++] = rest;
	} while (more && parts < ARRAY_SIZE(digits));

	seq_printf(out, "%s %u", name, digits[--parts]);
	while (parts)
		seq_printf(out, "%09u", digits[--parts]);
	seq_putc(out, '\n');
}

/* What all blocks have. */
static void times(struct seq_file *out, const char *prefix,
		  const struct xeno_usage *usage)
{
	int i;

	line(out, prefix, "at", usage->at);
	line(out, prefix, "user", usage->user);
	line(out, prefix, "kernel", usage->kernel);
	for (i = 0; i < XENO_CAUSES; i++)
		line(out, prefix, causes[i], usage->hypervisor[i]);
	line(out, prefix, "guaranteed", usage->guaranteed);
	line(out, prefix, "extra", usage->extra);
	line(out, prefix, "elsewhere", usage->elsewhere);
	line(out, prefix, "stolen", usage->stolen);
	line(out, prefix, "switches", usage->switches);
	line(out, prefix, "events-sent", usage->events_sent);
	line(out, prefix, "events-received", usage->events_received);
	line(out, prefix, "grants-used", usage->grants_used);
}

static void memory(struct seq_file *out, const struct xeno_usage *usage)
{
	line(out, "", "frames", usage->frames);
	line(out, "", "frames-peak", usage->frames_peak);
	long_line(out, "frame-cycles", usage->frame_cycles);
	line(out, "", "overhead", usage->overhead);
	line(out, "", "overhead-peak", usage->overhead_peak);
	long_line(out, "overhead-cycles", usage->overhead_cycles);
	line(out, "", "grants-lent", usage->grants_lent);
}

static long ask(struct xeno_usage *usage, u32 vcpu)
{
	*usage = (struct xeno_usage){
		.version = XENO_INTERFACE_VERSION,
		.domid = XENO_DOMID_SELF,
		.vcpu = vcpu,
	};
	return xeno_op(XENO_OP_USAGE, usage);
}

int xeno_text_show(struct seq_file *out, void *unused)
{
	struct xeno_usage usage;
	unsigned int cpu;
	long error;

	error = ask(&usage, XENO_USAGE_OF_DOMAIN);
	if (error)
		return error;
	line(out, "", "version", usage.version);
	line(out, "", "domain", usage.domid);
	line(out, "", "tsc-hz", usage.tsc_hz);
	times(out, "", &usage);
	memory(out, &usage);

	error = ask(&usage, XENO_USAGE_BESIDES);
	if (error)
		return error;
	times(out, "besides-", &usage);

	for_each_possible_cpu(cpu) {
		char prefix[16];

		error = ask(&usage, xen_vcpu_nr(cpu));
		/* One that the domain does not have, or not yet. */
		if (error == -EINVAL)
			continue;
		if (error)
			return error;
		snprintf(prefix, sizeof(prefix), "vcpu%u-", xen_vcpu_nr(cpu));
		/* The signs of one that no CPU has in hand are left out. */
		if (usage.cpu != XENO_USAGE_NO_CPU) {
			line(out, prefix, "cpu", usage.cpu);
			line(out, prefix, "open-since", usage.open_since);
		}
		times(out, prefix, &usage);
	}
	return 0;
}

size_t xeno_text_size(void)
{
	return (size_t)(num_possible_cpus() + 2) * BLOCK_LINES * LINE_BYTES;
}
