//! `audit`: asks the hypervisor, through the kernel's `/dev/xen/privcmd`, which one it is.
#![cfg_attr(target_os = "none", no_std, no_main)]

use programs::{Arguments, complain, program, say, sys};

program!(audit);

/// `struct privcmd_hypercall`: a hypercall that the kernel makes for a program.
#[repr(C)]
struct Privcmd {
    op: u64,
    arguments: [u64; 5],
}

/// `_IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))`.
const HYPERCALL: usize = size_of::<Privcmd>() << 16 | (b'P' as usize) << 8;

fn audit(_: Arguments) -> i32 {
    let device = match sys::open(c"/dev/xen/privcmd") {
        Ok(device) => device,
        Err(error) => {
            complain!("audit: /dev/xen/privcmd cannot be opened ({error:?})");
            return 1;
        }
    };
    let call = Privcmd {
        op: 17, // xen_version
        arguments: [0; 5],
    };
    // SAFETY: the version is returned; no memory is named.
    let answer = unsafe { sys::ioctl(device, HYPERCALL, &raw const call as usize) };
    match answer {
        Ok(version) => say!("version {}.{}", version >> 16, version & 0xffff),
        Err(error) => say!("refused: {error:?}"),
    }
    0
}
