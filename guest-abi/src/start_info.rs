//! The page a guest finds its bearings by when it starts.

use crate::wire::wire_struct;

/// Bytes of the command line, with its NUL.
pub const MAX_GUEST_CMDLINE: usize = 1024;

/// `StartInfo::flags`: the domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// `StartInfo::flags`: the domain is the initial control domain.
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// `StartInfo::flags`: the module is a multiboot list.
pub const SIF_MULTIBOOT_MOD: u32 = 1 << 2;
/// `StartInfo::flags`: `mod_start` is a pfn.
pub const SIF_MOD_START_PFN: u32 = 1 << 3;
/// `StartInfo::flags`: the linear physical-to-machine list is enough, no tree is needed.
pub const SIF_VIRT_P2M_4TOOLS: u32 = 1 << 4;
/// `StartInfo::flags`: power management options.
pub const SIF_PM_MASK: u32 = 0xff << 8;

wire_struct! {
    /// The page's content. RSI holds its address when the guest starts.
    pub struct StartInfo: 1168 {
        /// "xen-3.0-x86_64".
        0x000 magic: [u8; 32],
        /// Pages of the domain.
        0x020 nr_pages: u64,
        /// Machine address of the shared info.
        0x028 shared_info: u64,
        /// `SIF_*`.
        0x030 flags: u32,
        /// Padding.
        0x034 _pad0: u32,
        /// Machine frame of the store's ring.
        0x038 store_mfn: u64,
        /// Port of the store.
        0x040 store_evtchn: u32,
        /// Padding.
        0x044 _pad1: u32,
        /// Machine frame of the console's ring. In the control domain, see [`StartInfo::set_dom0_console`].
        0x048 console_mfn: u64,
        /// Port of the console.
        0x050 console_evtchn: u32,
        /// Padding.
        0x054 _pad2: u32,
        /// Virtual address of the root table.
        0x058 pt_base: u64,
        /// Pages of initial page tables, from there on.
        0x060 nr_pt_frames: u64,
        /// Virtual address of the physical-to-machine list.
        0x068 mfn_list: u64,
        /// Virtual address or pfn of the module.
        0x070 mod_start: u64,
        /// Bytes of the module.
        0x078 mod_len: u64,
        /// Command line, NUL-terminated.
        0x080 cmd_line: [u8; 1024],
        /// First pfn of the list and the tables that map it.
        0x480 first_p2m_pfn: u64,
        /// How many there are.
        0x488 nr_p2m_frames: u64,
    }
    /// One module of a multiboot list; a zero `mod_start` ends it.
    pub struct MultibootModList: 16 {
        /// Address of the first byte, from the start of the list.
        0x00 mod_start: u32,
        /// Address of the last byte.
        0x04 mod_end: u32,
        /// Address of the command line.
        0x08 cmdline: u32,
        /// Zero.
        0x0c _pad: u32,
    }
}

impl StartInfo {
    /// What `magic` holds; the rest of it is zero.
    pub const MAGIC: &'static [u8] = b"xen-3.0-x86_64";

    /// Puts the place of the control domain's [`VgaConsoleInfo`](crate::vga::Dom0VgaConsoleInfo) where other
    /// domains have their console: bytes from the start of the page, and size.
    pub const fn set_dom0_console(&mut self, info_off: u32, info_size: u32) {
        self.console_mfn = info_off as u64 | (info_size as u64) << 32;
        self.console_evtchn = 0;
    }

    /// The place and size of the control domain's console info.
    pub const fn dom0_console(&self) -> (u32, u32) {
        (self.console_mfn as u32, (self.console_mfn >> 32) as u32)
    }

    /// Sets the command line. `None`, and nothing changed, if it does not fit with its NUL or has one inside.
    pub fn set_cmd_line(&mut self, text: &[u8]) -> Option<()> {
        if text.len() >= self.cmd_line.len() || text.contains(&0) {
            return None;
        }
        self.cmd_line = [0; MAX_GUEST_CMDLINE];
        self.cmd_line.get_mut(..text.len())?.copy_from_slice(text);
        Some(())
    }

    /// Sets `magic`.
    pub fn set_magic(&mut self) {
        self.magic = [0; 32];
        for (to, from) in self.magic.iter_mut().zip(Self::MAGIC) {
            *to = *from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wire;

    #[test]
    fn a_command_line_keeps_its_nul() {
        let mut info = StartInfo::ZERO;
        assert_eq!(info.set_cmd_line(&[b'x'; 1024]), None);
        assert_eq!(info.set_cmd_line(b"a\0b"), None);
        assert_eq!(info, StartInfo::ZERO);
        assert_eq!(info.set_cmd_line(&[b'x'; 1023]), Some(()));
        assert_eq!(info.cmd_line.last(), Some(&0));
        assert_eq!(info.set_cmd_line(b"quiet"), Some(()));
        assert_eq!(info.cmd_line.get(..7), Some(&b"quiet\0\0"[..]));
    }

    #[test]
    fn the_control_domains_console_lies_in_the_union() {
        let mut info = StartInfo::ZERO;
        info.set_dom0_console(0x490, 40);
        assert_eq!(info.dom0_console(), (0x490, 40));
        let mut bytes = [0; StartInfo::SIZE];
        assert_eq!(info.write_to(&mut bytes), Some(()));
        assert_eq!(
            bytes.get(0x48..0x50),
            Some(&[0x90, 4, 0, 0, 40, 0, 0, 0][..])
        );
    }
}
