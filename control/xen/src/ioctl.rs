//! The control calls of the kernel's Xen devices: numbers and structures, as Linux's public headers have them.

use std::ffi::c_ulong;

/// A call's number as Linux makes it where no direction is said: size, letter, number.
const fn number(letter: u8, number: u8, size: usize) -> c_ulong {
    (size as c_ulong) << 16 | (letter as c_ulong) << 8 | number as c_ulong
}

/// `struct privcmd_hypercall`.
#[repr(C)]
pub(crate) struct Hypercall {
    pub(crate) op: u64,
    pub(crate) arguments: [u64; 5],
}
pub(crate) const PRIVCMD_HYPERCALL: c_ulong = number(b'P', 0, size_of::<Hypercall>());

/// `struct privcmd_mmapbatch_v2`.
#[repr(C)]
pub(crate) struct MapBatch {
    pub(crate) count: u32,
    pub(crate) domain: u16,
    pub(crate) _pad: u16,
    pub(crate) address: u64,
    pub(crate) frames: *const u64,
    pub(crate) errors: *mut i32,
}
pub(crate) const PRIVCMD_MAP_BATCH: c_ulong = number(b'P', 4, size_of::<MapBatch>());

/// `struct privcmd_mmap_resource`.
#[repr(C)]
pub(crate) struct MapResource {
    pub(crate) domain: u16,
    pub(crate) _pad: u16,
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) index: u32,
    pub(crate) count: u64,
    pub(crate) address: u64,
}
pub(crate) const PRIVCMD_MAP_RESOURCE: c_ulong = number(b'P', 7, size_of::<MapResource>());

/// `struct ioctl_evtchn_bind_virq`, `_bind_unbound_port`, `_unbind`, `_notify`: all are one number.
#[repr(C)]
pub(crate) struct One(pub(crate) u32);
/// `struct ioctl_evtchn_bind_interdomain`.
#[repr(C)]
pub(crate) struct RemotePort {
    pub(crate) domain: u32,
    pub(crate) port: u32,
}
pub(crate) const EVTCHN_BIND_VIRQ: c_ulong = number(b'E', 0, size_of::<One>());
pub(crate) const EVTCHN_BIND_INTERDOMAIN: c_ulong = number(b'E', 1, size_of::<RemotePort>());
pub(crate) const EVTCHN_BIND_UNBOUND: c_ulong = number(b'E', 2, size_of::<One>());
pub(crate) const EVTCHN_UNBIND: c_ulong = number(b'E', 3, size_of::<One>());
pub(crate) const EVTCHN_NOTIFY: c_ulong = number(b'E', 4, size_of::<One>());

/// The head of `struct ioctl_gntdev_map_grant_ref`; `count` pairs of domain and reference follow.
#[repr(C)]
pub(crate) struct MapGrants {
    pub(crate) count: u32,
    pub(crate) _pad: u32,
    pub(crate) index: u64,
}
/// Words of [`MapGrants`].
pub(crate) const MAP_GRANTS_WORDS: usize = size_of::<MapGrants>() / 8;
/// `struct ioctl_gntdev_unmap_grant_ref`.
#[repr(C)]
pub(crate) struct UnmapGrants {
    pub(crate) index: u64,
    pub(crate) count: u32,
    pub(crate) _pad: u32,
}
// The number is made with one pair, however many follow.
pub(crate) const GNTDEV_MAP: c_ulong = number(b'G', 0, size_of::<MapGrants>() + 8);
pub(crate) const GNTDEV_UNMAP: c_ulong = number(b'G', 1, size_of::<UnmapGrants>());

/// `IOCTL_XENBUS_BACKEND_EVTCHN`.
pub(crate) const XENBUS_BACKEND_PORT: c_ulong = number(b'B', 0, 0);

const _: () = {
    assert!(size_of::<Hypercall>() == 48);
    assert!(size_of::<MapBatch>() == 32);
    assert!(size_of::<MapResource>() == 32);
};
