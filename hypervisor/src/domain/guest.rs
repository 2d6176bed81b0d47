//! The guest in hand: one exit's registers and the vCPU they belong to.

use crate::arch::cpu;
use crate::arch::guest_memory::GuestMemory;
use crate::arch::percpu;
use crate::arch::regs::Regs;
use crate::arch::smp;
use crate::domain::{Domain, Local, Vcpu};
use crate::layout::PAGE;
use frames::Mfn;

/// What a handler works with. Made once per exit (D1).
pub struct Guest<'a> {
    /// Registers at the exit; what is in them at the end is what the guest goes on with.
    pub regs: &'a mut Regs,
    /// The vCPU.
    pub vcpu: &'static Vcpu,
    /// Its domain.
    pub dom: &'static Domain,
    /// Its own state.
    pub local: &'a mut Local,
}

impl<'a> Guest<'a> {
    /// The guest that runs on this CPU.
    ///
    /// # Safety
    /// Called once per exit by the exit path; `regs` is the exit's frame (D1).
    pub unsafe fn here(regs: &'a mut Regs) -> Option<Guest<'a>> {
        let vcpu = percpu::current().current.get()?;
        // SAFETY: the caller is the exit path of the CPU the vCPU runs on.
        let local = unsafe { vcpu.local() };
        Some(Guest {
            regs,
            vcpu,
            dom: vcpu.domain,
            local,
        })
    }

    /// Whether it was in its user mode.
    #[inline]
    pub fn is_user(&self) -> bool {
        self.vcpu.transit.is_user()
    }

    /// Its memory as its kernel sees it.
    #[inline]
    pub fn memory(&self) -> GuestMemory {
        GuestMemory::new(self.local.kernel_root, self.vcpu)
    }

    /// Puts the guest into its kernel mode (D3). The root follows on the way out.
    pub fn enter_kernel_mode(&mut self) {
        if self.is_user() {
            self.vcpu.transit.set_user(false);
            cpu::swapgs();
        }
    }

    /// Puts the guest into its user mode (D3). False if it has no user root.
    pub fn enter_user_mode(&mut self) -> bool {
        if self.local.user_root.is_none() {
            return false;
        }
        if !self.is_user() {
            self.vcpu.transit.set_user(true);
            cpu::swapgs();
        }
        true
    }

    /// The root the guest will go on with.
    #[inline]
    pub fn root(&self) -> Mfn {
        if self.is_user() {
            self.local.user_root.unwrap_or(self.local.kernel_root)
        } else {
            self.local.kernel_root
        }
    }

    /// Where roots are shared, ring 0 runs on the guest's: puts the current one in force, because the one that was
    /// may be about to be given up.
    pub fn load_root(&self) {
        if !self.dom.isolated {
            let root = self.root().0 * PAGE;
            percpu::current().root.set(root);
            percpu::flush_here();
        }
    }

    /// Drops every CPU's translations of the guest's addresses.
    pub fn flush_everywhere(&self) {
        self.flush_local();
        smp::flush::flush_others_of(self.dom.id);
    }

    /// Drops this CPU's translations of the guest's addresses.
    #[inline]
    pub fn flush_local(&self) {
        // Isolated, entering ring 0 has changed roots already, and leaving it will again.
        if !self.dom.isolated {
            percpu::flush_here();
        }
    }
}
