//! The domain itself, before it has memory: its record, its exposed area, its vCPUs.

use super::DOM0;
use super::error::BuildError;
use crate::device;
use crate::domain::create::{self, Wanted};
use crate::domain::{MAX_VCPUS, Vcpu, table};
use crate::info;
use crate::layout::PAGE;
use alloc::boxed::Box;
use boot_info::Params;

const _: () = assert!(MAX_VCPUS == Params::MAX_VCPUS as usize);

/// Makes the domain and its vCPUs, without memory yet; the first vCPU.
pub(super) fn new_domain(params: &Params, frames: u64) -> Result<&'static Vcpu, BuildError> {
    let wanted = Wanted {
        privileged: true,
        max_vcpus: params.dom0_max_vcpus,
        max_pages: params.dom0_mem.max.map_or(frames, |b| b / PAGE).max(frames),
        // The first frame of event channels and of uses of grants are had by every domain.
        max_overhead: params.dom0_overhead / PAGE,
        max_ports: events::MAX_PORTS,
        grant_frames: grants::MAX_TABLE_FRAMES,
        handle_frames: grants::MAX_HANDLE_FRAMES,
        handle: [0; 16],
        serves_store: false,
        pauses: 0,
    };
    let number = table::claim(DOM0).map_err(|_| BuildError::NoFrame)?;
    let domain = create::domain(number, &wanted, || {})?;
    info!(
        "domain 0: {} address space",
        if domain.isolated {
            "isolated"
        } else {
            "shared"
        }
    );
    // The control domain's own wired interrupts, one number each.
    let pirqs = alloc::vec![None; device::pirq::MAX as usize].into_boxed_slice();
    domain.events.lock().set_pirqs(Box::leak(pirqs));
    for id in 0..domain.max_vcpus {
        create::vcpu(domain, id)?;
    }
    info!("domain 0: {} vCPUs", domain.max_vcpus);
    domain.vcpu(0).ok_or(BuildError::NoFrame)
}
