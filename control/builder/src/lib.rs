//! The domain builder: makes a paravirtualized guest of a kernel, an initrd and a size.
//!
//! [`build`] leaves a domain that is paused and complete: its memory filled, its first vCPU at the kernel's entry
//! point, rings for its console and the store in place, granted and with their ports. Whoever called then introduces
//! it to the store, listens to its console and unpauses it.
//!
//! # Invariants
//! - B1: whatever can be known beforehand is checked before anything is created ([`check`] does it all).
//! - B2: when a step fails, everything done before is undone: no domain, no mapping and no port is left.
//! - B3: at most [`BATCH_PAGES`] pages of the domain are mapped at a time, whatever its size.
//! - B4: memory that the hypervisor gives is zero, and what shall be zero is not written.
#![forbid(unsafe_code)]

mod batch;
mod contents;
mod error;
mod memory;
mod spec;

pub use error::BuildError;
pub use spec::{Built, Initrd, Limits, Ring, Spec};

use contents::Contents;
use guest_abi::context::{VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext, xen_pfn_to_cr3};
use guest_abi::grant::{GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE};
use guest_abi::memory::{E820_RAM, E820Entry};
use guest_abi::segment::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};
use guest_abi::start_info::MAX_GUEST_CMDLINE;
use image::{Layout, LayoutError, Rings};
use memory::Memory;
use xen::{DomId, Hypervisor, NewDomain};

/// Pages mapped at a time while building.
pub const BATCH_PAGES: usize = 1024;

const PAGE: u64 = 4096;
/// Interrupts enabled: the guest's events are masked by its shared info instead.
const RFLAGS_IF: u64 = 1 << 9;
/// Pages the hypervisor takes for a domain beside its memory, and for each vCPU, as a guess on the safe side.
const DOMAIN_OVERHEAD: u64 = 64;
const VCPU_OVERHEAD: u64 = 8;

/// Checks all that can be checked without creating anything, and says where everything will go.
///
/// # Errors
/// [`BuildError`].
pub fn check(hypervisor: &dyn Hypervisor, spec: &Spec<'_>) -> Result<Layout, BuildError> {
    if !(1..=Spec::MAX_VCPUS).contains(&spec.vcpus) {
        return Err(BuildError::Vcpus {
            vcpus: spec.vcpus,
            max: Spec::MAX_VCPUS,
        });
    }
    if spec.command_line.len() >= MAX_GUEST_CMDLINE {
        return Err(BuildError::CommandLine {
            len: spec.command_line.len(),
        });
    }
    if spec.command_line.contains(&0) {
        return Err(BuildError::CommandLineNul);
    }
    if spec.pages > Spec::MAX_PAGES {
        return Err(BuildError::TooBig {
            pages: spec.pages,
            max: Spec::MAX_PAGES,
        });
    }
    if spec.max_pages < spec.pages {
        return Err(BuildError::Maximum {
            pages: spec.pages,
            max: spec.max_pages,
        });
    }
    let initrd_len = spec.initrd.map_or(0, Initrd::len);
    let layout = Layout::plan(
        *spec.kernel.placement(),
        initrd_len,
        spec.pages,
        Rings::StoreAndConsole,
    )
    .map_err(|error| match error {
        LayoutError::Image(error) => BuildError::Kernel(error),
        LayoutError::TooFewPages { need, have } => BuildError::TooSmall { need, have },
    })?;
    let machine = hypervisor.machine()?;
    if !machine.runs_pv {
        return Err(BuildError::NoPv);
    }
    let need = spec.pages + DOMAIN_OVERHEAD + VCPU_OVERHEAD * u64::from(spec.vcpus);
    let free = machine.free_pages.saturating_sub(machine.outstanding_pages);
    if need > free {
        return Err(BuildError::NoMemory { need, free });
    }
    Ok(layout)
}

/// Checks all that can be checked, then builds the domain. It is left paused.
///
/// # Errors
/// [`BuildError`]; then nothing is left behind (B2).
pub fn build(hypervisor: &dyn Hypervisor, spec: &Spec<'_>) -> Result<Built, BuildError> {
    let layout = check(hypervisor, spec)?;
    let domain = hypervisor.create_domain(&NewDomain {
        handle: spec.handle,
        max_vcpus: spec.vcpus,
        max_port: spec.limits.max_port,
        max_grant_frames: spec.limits.grant_frames,
        max_maptrack_frames: spec.limits.maptrack_frames,
    })?;
    fill(hypervisor, spec, &layout, domain).map_err(|error| {
        // All mappings are gone by now; ports and memory go with the domain.
        match hypervisor.destroy(domain) {
            Ok(()) => error,
            Err(undo) => BuildError::Undo {
                error: Box::new(error),
                domain,
                undo,
            },
        }
    })
}

/// Everything but the domain itself.
fn fill(
    hypervisor: &dyn Hypervisor,
    spec: &Spec<'_>,
    layout: &Layout,
    domain: DomId,
) -> Result<Built, BuildError> {
    hypervisor.set_max_vcpus(domain, spec.vcpus)?;
    hypervisor.set_max_pages(domain, spec.max_pages)?;
    tell_memory_map(hypervisor, domain, spec.max_pages)?;
    let memory = Memory::populate(hypervisor, domain, spec.pages)?;
    let info = hypervisor.domain(domain)?.ok_or(BuildError::Vanished)?;

    let (store_page, console_page) = layout.rings.ok_or(BuildError::Vanished)?;
    let store = Ring {
        frame: memory.frame(store_page),
        port: hypervisor.alloc_unbound(domain, spec.store_domain)?,
        reference: GNTTAB_RESERVED_XENSTORE,
    };
    let console = Ring {
        frame: memory.frame(console_page),
        port: hypervisor.alloc_unbound(domain, spec.console_domain)?,
        reference: GNTTAB_RESERVED_CONSOLE,
    };
    let contents = Contents {
        hypervisor,
        layout,
        memory: &memory,
    };
    contents.kernel(spec.kernel)?;
    if let Some(initrd) = spec.initrd {
        contents.initrd(initrd)?;
    }
    contents.frame_list()?;
    contents.tables()?;
    contents.start_info(&store, &console, info.shared_info_frame, spec.command_line)?;
    contents.grant(&[(store, spec.store_domain), (console, spec.console_domain)])?;
    contents.mask_events(info.shared_info_frame)?;
    if let Some(page) = layout.kernel.hypercall_pfn {
        hypervisor.fill_hypercall_page(domain, memory.frame(page))?;
    }
    let root = memory.frame(layout.root());
    hypervisor.pin_root(domain, root)?;
    hypervisor.set_vcpu_context(domain, 0, &first_state(layout, root))?;
    Ok(Built {
        domain,
        console,
        store,
        entry: layout.kernel.entry,
    })
}

/// The memory map of a guest is one piece from 0 to the most it may have.
fn tell_memory_map(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    max_pages: u64,
) -> Result<(), xen::Error> {
    let map = [E820Entry {
        addr: 0,
        size: max_pages.saturating_mul(PAGE),
        kind: E820_RAM,
    }];
    match hypervisor.set_memory_map(domain, &map) {
        // Then Linux makes one up, which knows nothing of a maximum.
        Err(e) if e.errno() == Some(guest_abi::Errno::NoSys) => Ok(()),
        other => other,
    }
}

/// The first vCPU's registers: at the entry point, with the address of the start-of-day page in RSI.
fn first_state(layout: &Layout, root: u64) -> VcpuGuestContext {
    let mut context = VcpuGuestContext::ZERO;
    let stack = layout.virt(layout.stack + 1);
    context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
    context.user_regs.rip = layout.kernel.entry;
    context.user_regs.rsp = stack;
    context.user_regs.rsi = layout.virt(layout.start_info);
    context.user_regs.rflags = RFLAGS_IF;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.kernel_ss = u64::from(FLAT_KERNEL_SS);
    context.kernel_sp = stack;
    context.ctrlreg[3] = xen_pfn_to_cr3(root);
    context
}
