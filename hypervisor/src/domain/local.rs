//! What a vCPU is, apart from its general registers: the state only its own CPU touches (D1).

use crate::arch::fpu::FpuState;
use crate::arch::regs::Regs;
use frames::Mfn;

/// One entry of the guest's trap table.
#[derive(Clone, Copy, Default, Debug)]
pub struct Trap {
    /// Handler, 0 for none.
    pub address: u64,
    /// Selector it runs on, privilege level forced to 3.
    pub cs: u16,
    /// Least privileged level whose `int n` reaches it.
    pub dpl: u8,
    /// Whether delivery masks events.
    pub masks_events: bool,
}

/// The trap table, a word an entry: every vCPU has one, and most of a table is empty.
///
/// ```text
/// 63 62 61          48 47              0
/// | dpl | selector/4  | address's bits  |
/// ```
/// An address is canonical, so that its upper bits repeat bit 47; a selector's privilege level is 3.
pub struct Traps {
    words: [u64; 256],
    masks: [u64; 4],
}

impl Traps {
    const ADDRESS: u32 = 48;
    const DPL: u32 = 62;
    const SELECTOR: u64 = 0x3fff;

    /// No handlers.
    pub const NONE: Traps = Traps {
        words: [0; 256],
        masks: [0; 4],
    };

    /// The handler of a vector.
    #[inline]
    pub fn get(&self, vector: u8) -> Trap {
        let word = self.words[usize::from(vector)];
        let masks = self.masks[usize::from(vector / 64)];
        Trap {
            address: ((word << 16) as i64 >> 16) as u64,
            cs: (word >> Self::ADDRESS & Self::SELECTOR) as u16 * 4 + 3,
            dpl: (word >> Self::DPL) as u8,
            masks_events: masks >> (vector % 64) & 1 == 1,
        }
    }

    /// Sets the handler of a vector, at a canonical address.
    pub fn set(&mut self, vector: u8, trap: Trap) {
        debug_assert!(crate::layout::is_canonical(trap.address));
        let word = trap.address << 16 >> 16
            | u64::from(trap.cs / 4) << Self::ADDRESS
            | u64::from(trap.dpl & 3) << Self::DPL;
        self.words[usize::from(vector)] = word;
        let (masks, bit) = (&mut self.masks[usize::from(vector / 64)], vector % 64);
        *masks = *masks & !(1 << bit) | u64::from(trap.masks_events) << bit;
    }
}

/// A registered callback.
#[derive(Clone, Copy, Default, Debug)]
pub struct Callback {
    /// Entry point, 0 for none.
    pub address: u64,
    /// Whether delivery masks events.
    pub masks_events: bool,
}

/// Frames of the guest's descriptor table.
pub const GDT_FRAMES: usize = 14;

/// State of a vCPU that only its CPU touches.
pub struct Local {
    /// Root of the guest's kernel (D2).
    pub kernel_root: Mfn,
    /// Root of the guest's user mode (D2).
    pub user_root: Option<Mfn>,
    /// Exception handlers.
    pub traps: &'static mut Traps,
    /// Event callback.
    pub event_callback: Callback,
    /// Callback for segment registers that could not be loaded.
    pub failsafe_callback: Callback,
    /// 64-bit system call.
    pub syscall_callback: Callback,
    /// 32-bit `syscall`.
    pub syscall32_callback: Callback,
    /// 32-bit `sysenter`.
    pub sysenter_callback: Callback,
    /// Kernel stack for entries from user mode.
    pub kernel_ss: u16,
    /// Kernel stack for entries from user mode.
    pub kernel_sp: u64,
    /// Descriptor-table frames, each held with a descriptor-type reference.
    pub gdt: [Option<Mfn>; GDT_FRAMES],
    /// Descriptors in the table.
    pub gdt_entries: u32,
    /// Guest address of the local descriptor table.
    pub ldt_base: u64,
    /// Its descriptors.
    pub ldt_entries: u32,
    /// Frames mapped of it so far.
    pub ldt: [Option<Mfn>; 16],
    /// Debug registers as the guest set them; 4 and 5 unused.
    pub debug: [u64; 8],
    /// Virtual I/O privilege level.
    pub iopl: u8,
    /// Virtual CR0.TS.
    pub task_switched: bool,
    /// Virtual CR2.
    pub cr2: u64,
    /// The guest's part of CR4.
    pub cr4: u64,
    /// FS base the guest set.
    pub fs_base: u64,
    /// GS base of user mode.
    pub gs_base_user: u64,
    /// GS base of kernel mode.
    pub gs_base_kernel: u64,
    /// TSC_AUX.
    pub tsc_aux: u64,
    /// Whether the CPU has TSC_AUX.
    pub tsc_aux_used: bool,
    /// General registers while the vCPU is not on a CPU.
    pub regs: Regs,
    /// Guest address of the I/O permission bitmap.
    pub io_bitmap: u64,
    /// Ports it describes.
    pub io_bitmap_ports: u32,
    /// Selectors saved while another vCPU is on the CPU.
    pub selectors: [u16; 4],
    /// The selectors were never loaded: those that name a descriptor bring its base with them.
    pub selectors_fresh: bool,
    /// Vector state.
    pub fpu: FpuState,
    /// It handles an NMI: another waits for its return.
    pub nmi_masked: bool,
    /// Returns to it that faulted since it last executed anything.
    pub failed_returns: u8,
    /// Latch of the PCI configuration address port.
    pub pci_address: u32,
    /// Latch of the CMOS index port.
    pub cmos_index: u8,
    /// A hypercall is to be made again, as its registers say, before the guest goes on or when it does.
    pub repeat: bool,
}

impl Local {
    /// A vCPU that has never run, with memory for what is apart.
    pub fn new(traps: &'static mut Traps, fpu: FpuState) -> Local {
        Local {
            kernel_root: Mfn(0),
            user_root: None,
            traps,
            event_callback: Callback::default(),
            failsafe_callback: Callback::default(),
            syscall_callback: Callback::default(),
            syscall32_callback: Callback::default(),
            sysenter_callback: Callback::default(),
            kernel_ss: 0,
            kernel_sp: 0,
            gdt: [None; GDT_FRAMES],
            gdt_entries: 0,
            ldt_base: 0,
            ldt_entries: 0,
            ldt: [None; 16],
            debug: [0, 0, 0, 0, 0, 0, 0xffff_0ff0, 0x400],
            iopl: 0,
            task_switched: false,
            cr2: 0,
            cr4: 0,
            fs_base: 0,
            gs_base_user: 0,
            gs_base_kernel: 0,
            tsc_aux: 0,
            tsc_aux_used: crate::arch::cpu::has_tsc_aux(),
            regs: Regs::default(),
            io_bitmap: 0,
            io_bitmap_ports: 0,
            selectors: [0; 4],
            selectors_fresh: false,
            fpu,
            nmi_masked: false,
            failed_returns: 0,
            pci_address: 0,
            cmos_index: 0,
            repeat: false,
        }
    }
}
