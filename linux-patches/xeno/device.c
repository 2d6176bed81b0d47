// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/xeno for stock kernels that run as guests of a Xenoserver: shows what the domain used, and asks for CPU time.
 * The interface is in xeno.h, what it means to a person in linux-patches/README.md.
 *
 * What holds here:
 *  - Every structure is copied in once, checked, handed to the hypervisor and copied out; what the program does to its
 *    memory meanwhile changes nothing.
 *  - The hypervisor is asked about this domain alone, whoever asks. It decides what is granted: its refusals are passed
 *    on as they are, with what it says besides.
 *  - Any user may read (mode 0444). What binds the whole domain, a reservation, takes CAP_SYS_ADMIN of the initial user
 *    namespace, for which a file that was opened by root and handed on is not enough.
 *  - Without our hypervisor the module is not loaded, says why in a sentence, and has touched nothing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <xen/xen-ops.h>
#include <xen/xen.h>
#include <asm/xen/hypercall.h>

#include "module.h"

/* Above all that the public interface uses; what `_hypercall2` makes of the name xeno_op. */
#define __HYPERVISOR_xeno_op 64

long xeno_op(unsigned int op, void *arg)
{
	long answer = _hypercall2(long, xeno_op, op, arg);

	/* Only what programs know as an error number may get out. */
	if (answer > 0 || answer < -MAX_ERRNO)
		return -EIO;
	return answer;
}

/* Flags of a mapping are changed by functions since Linux 6.3. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#define set_flags(vma, flags) vm_flags_set(vma, flags)
#define clear_flags(vma, flags) vm_flags_clear(vma, flags)
#else
#define set_flags(vma, flags) ((vma)->vm_flags |= (flags))
#define clear_flags(vma, flags) ((vma)->vm_flags &= ~(flags))
#endif

/* What begins each structure that names a domain. */
struct head {
	__u32 version;
	__u16 domid;
};

/* The largest of the structures. */
union argument {
	struct head head;
	struct xeno_usage usage;
	struct xeno_sched_rules rules;
	struct xeno_sched_get get;
	struct xeno_sched_set set;
};

static unsigned int operation(unsigned int request)
{
	switch (request) {
	case XENO_IOC_USAGE:
		return XENO_OP_USAGE;
	case XENO_IOC_SCHED_RULES:
		return XENO_OP_SCHED_RULES;
	case XENO_IOC_SCHED_GET:
		return XENO_OP_SCHED_GET;
	case XENO_IOC_SCHED_SET:
		return XENO_OP_SCHED_SET;
	default:
		return 0;
	}
}

static long xeno_ioctl(struct file *file, unsigned int request,
		       unsigned long address)
{
	void __user *theirs = (void __user *)address;
	unsigned int op = operation(request);
	/* The request is one of four whose size the union has. */
	size_t size = _IOC_SIZE(request);
	union argument arg;
	long answer;

	if (!op)
		return -ENOTTY;
	if (op == XENO_OP_SCHED_SET && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (copy_from_user(&arg, theirs, size))
		return -EFAULT;
	if (arg.head.version != XENO_INTERFACE_VERSION)
		return -EINVAL;
	/* Rules have no domain; there they are not changed. */
	if (op == XENO_OP_SCHED_RULES ? arg.rules.set != 0 :
					arg.head.domid != XENO_DOMID_SELF)
		return -EINVAL;
	/* Nothing is asked for whose answer has no place. */
	if (copy_to_user(theirs, &arg, size))
		return -EFAULT;
	answer = xeno_op(op, &arg);
	/* A refusal comes with what the hypervisor says to it. */
	if (copy_to_user(theirs, &arg, size))
		return -EFAULT;
	return answer;
}

/* Where a frame of the usage area lies. */
static long find_frame(u32 index, struct xeno_usage_frame *frame)
{
	*frame = (struct xeno_usage_frame){
		.version = XENO_INTERFACE_VERSION,
		.domid = XENO_DOMID_SELF,
		.index = index,
	};
	return xeno_op(XENO_OP_USAGE_FRAME, frame);
}

/*
 * Maps frames of the usage area. They are the hypervisor's, which lets this domain map them as if they were its own, to
 * read; the kernel is told that there is no memory of its own behind the addresses.
 */
static int xeno_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long address = vma->vm_start;
	struct xeno_usage_frame frame;
	u64 index = vma->vm_pgoff;
	long error;

	if (vma->vm_flags & VM_WRITE)
		return -EACCES;
	error = find_frame(0, &frame);
	if (error)
		return error;
	if (index > frame.nr_frames || vma_pages(vma) > frame.nr_frames - index)
		return -EINVAL;
	set_flags(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY);
	clear_flags(vma, VM_MAYWRITE);
	for (; address < vma->vm_end; address += PAGE_SIZE, index++) {
		xen_pfn_t mfn;
		int refused;

		error = find_frame(index, &frame);
		if (error)
			return error;
		mfn = frame.mfn;
		/* What was mapped before a refusal the kernel unmaps with the whole. */
		error = xen_remap_domain_gfn_array(vma, address, &mfn, 1, &refused,
						   vma->vm_page_prot, DOMID_SELF,
						   NULL);
		if (error != 1)
			return error < 0 ? error : refused ?: -EIO;
	}
	return 0;
}

static int xeno_open(struct inode *inode, struct file *file)
{
	/* A device's driver finds itself here; what shows text wants the place for its own. */
	file->private_data = NULL;
	return single_open_size(file, xeno_text_show, NULL, xeno_text_size());
}

static const struct file_operations xeno_operations = {
	.owner = THIS_MODULE,
	.open = xeno_open,
	.read = seq_read,
	.llseek = seq_lseek,
	.mmap = xeno_mmap,
	.release = single_release,
	.unlocked_ioctl = xeno_ioctl,
	/* The structures are the same for programs of 32 bits. */
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice xeno_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "xeno",
	.fops = &xeno_operations,
	.mode = 0444,
};

/* Whether there is a hypervisor of ours, of our version. Xen itself does not know the hypercall. */
static int __init find_hypervisor(void)
{
	struct xeno_usage usage = {
		.version = XENO_INTERFACE_VERSION,
		.domid = XENO_DOMID_SELF,
		.vcpu = XENO_USAGE_OF_DOMAIN,
	};
	long error;

	if (!xen_pv_domain()) {
		pr_info("this kernel does not run as a guest of a Xenoserver, so there is no /dev/xeno\n");
		return -ENODEV;
	}
	error = xeno_op(XENO_OP_USAGE, &usage);
	if (error == -ENOSYS) {
		pr_info("the hypervisor is Xen, not a Xenoserver's, so there is no /dev/xeno\n");
		return -ENODEV;
	}
	if (error) {
		pr_err("the hypervisor does not tell what this domain used (error %ld): is it of another version than %d?\n",
		       error, XENO_INTERFACE_VERSION);
		return -ENODEV;
	}
	return 0;
}

static int __init xeno_init(void)
{
	int error = find_hypervisor();

	return error ? error : misc_register(&xeno_device);
}

static void __exit xeno_exit(void)
{
	misc_deregister(&xeno_device);
}

module_init(xeno_init);
module_exit(xeno_exit);

MODULE_DESCRIPTION("What this domain used of a Xenoserver, and CPU time for it");
MODULE_LICENSE("GPL");
