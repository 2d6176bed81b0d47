//! What the control domain learns about the screen. It lies behind the start info.

use crate::wire::{Wire, wire_struct};

/// `Dom0VgaConsoleInfo::video_type`: no screen.
pub const XEN_VGATYPE_NONE: u8 = 0;
/// `Dom0VgaConsoleInfo::video_type`: text, mode 3.
pub const XEN_VGATYPE_TEXT_MODE_3: u8 = 0x03;
/// `Dom0VgaConsoleInfo::video_type`: a linear frame buffer of the BIOS.
pub const XEN_VGATYPE_VESA_LFB: u8 = 0x23;
/// `Dom0VgaConsoleInfo::video_type`: a linear frame buffer of the firmware.
pub const XEN_VGATYPE_EFI_LFB: u8 = 0x70;

wire_struct! {
    /// The screen is text.
    pub struct TextMode3: 10 {
        /// Height of a character in pixels.
        0x00 font_height: u16,
        /// Column of the cursor.
        0x02 cursor_x: u16,
        /// Row of the cursor.
        0x04 cursor_y: u16,
        /// Rows of the screen.
        0x06 rows: u16,
        /// Columns of the screen.
        0x08 columns: u16,
    }
    /// The screen is a linear frame buffer.
    pub struct VesaLfb: 36 {
        /// Width in pixels.
        0x00 width: u16,
        /// Height in pixels.
        0x02 height: u16,
        /// Bytes from one line to the next.
        0x04 bytes_per_line: u16,
        /// Bits of a pixel.
        0x06 bits_per_pixel: u16,
        /// Physical address, low half.
        0x08 lfb_base: u32,
        /// Size; in units of 64 KiB, or bytes if the firmware is EFI.
        0x0c lfb_size: u32,
        /// Lowest bit of red.
        0x10 red_pos: u8,
        /// Bits of red.
        0x11 red_size: u8,
        /// Lowest bit of green.
        0x12 green_pos: u8,
        /// Bits of green.
        0x13 green_size: u8,
        /// Lowest bit of blue.
        0x14 blue_pos: u8,
        /// Bits of blue.
        0x15 blue_size: u8,
        /// Lowest bit not used.
        0x16 rsvd_pos: u8,
        /// Bits not used.
        0x17 rsvd_size: u8,
        /// Capabilities of the BIOS.
        0x18 gbl_caps: u32,
        /// Attributes of the mode.
        0x1c mode_attrs: u16,
        /// Padding.
        0x1e _pad: u16,
        /// Physical address, high half.
        0x20 ext_lfb_base: u32,
    }
    /// What the screen is.
    pub struct Dom0VgaConsoleInfo: 40 {
        /// `XEN_VGATYPE_*`.
        0x00 video_type: u8,
        /// Padding.
        0x01 _pad0: [u8; 3],
        /// [`TextMode3`] or [`VesaLfb`], by `video_type`.
        0x04 u: [u8; 36],
    }
}

impl Dom0VgaConsoleInfo {
    /// A text screen.
    pub fn from_text_mode_3(mode: &TextMode3) -> Self {
        Self::with(XEN_VGATYPE_TEXT_MODE_3, mode)
    }

    /// A frame buffer of the BIOS.
    pub fn from_vesa_lfb(lfb: &VesaLfb) -> Self {
        Self::with(XEN_VGATYPE_VESA_LFB, lfb)
    }

    /// A frame buffer of the firmware.
    pub fn from_efi_lfb(lfb: &VesaLfb) -> Self {
        Self::with(XEN_VGATYPE_EFI_LFB, lfb)
    }

    fn with<T: Wire>(video_type: u8, screen: &T) -> Self {
        const { assert!(T::SIZE <= 36) };
        let mut info = Self {
            video_type,
            ..Self::ZERO
        };
        let written = screen.write_to(&mut info.u);
        debug_assert!(written.is_some());
        info
    }

    /// The text screen, if it is one.
    pub fn text_mode_3(&self) -> Option<TextMode3> {
        if self.video_type == XEN_VGATYPE_TEXT_MODE_3 {
            TextMode3::read_from(&self.u)
        } else {
            None
        }
    }

    /// The frame buffer, if it is one.
    pub fn lfb(&self) -> Option<VesaLfb> {
        match self.video_type {
            XEN_VGATYPE_VESA_LFB | XEN_VGATYPE_EFI_LFB => VesaLfb::read_from(&self.u),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_read_as_what_it_was_made_of() {
        let lfb = VesaLfb {
            width: 1024,
            ext_lfb_base: 7,
            ..VesaLfb::ZERO
        };
        let info = Dom0VgaConsoleInfo::from_efi_lfb(&lfb);
        assert_eq!(info.lfb(), Some(lfb));
        assert_eq!(info.text_mode_3(), None);
        let text = TextMode3 {
            rows: 25,
            columns: 80,
            ..TextMode3::ZERO
        };
        let info = Dom0VgaConsoleInfo::from_text_mode_3(&text);
        assert_eq!(info.text_mode_3(), Some(text));
        assert_eq!(info.lfb(), None);
    }
}
