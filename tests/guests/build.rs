//! Gives the linker each guest's layout, when they are built for the bare machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// How a guest is laid out and what its program headers say.
struct Layout {
    virt_base: &'static str,
    /// Pseudo-physical address of the image.
    load: &'static str,
    /// Virtual less physical address, as the file has them.
    delta: &'static str,
    flags: [&'static str; 2],
    data_alignment: &'static str,
    has_note_segment: bool,
    /// Where the pages are that the runtime allocates from.
    pool: &'static str,
}

const USUAL: Layout = Layout {
    virt_base: "0xffffffff80000000",
    load: "0x100000",
    delta: "VIRT_BASE",
    flags: ["5", "6"],
    data_alignment: "4096",
    has_note_segment: true,
    pool: "VIRT_BASE",
};

fn layout(name: &str) -> Layout {
    match name {
        "placed_by_older_section" => Layout {
            delta: "0",
            has_note_segment: false,
            ..USUAL
        },
        "placed_at_zero" => Layout {
            virt_base: "0",
            load: "0",
            // Behind everything else: there is nothing below the image.
            pool: ".; . += 256 * 4096",
            ..USUAL
        },
        "placed_unaligned" => Layout {
            load: "0x100040",
            delta: "(VIRT_BASE - 0x2000000000)",
            flags: ["7", "7"],
            data_alignment: "8",
            has_note_segment: false,
            ..USUAL
        },
        "placed_across" => Layout {
            virt_base: "0xffffffffbff01000",
            ..USUAL
        },
        _ => USUAL,
    }
}

impl Layout {
    fn script(&self, template: &str) -> String {
        let (header, segments) = match self.has_note_segment {
            true => ("note PT_NOTE FLAGS(4);", ":text :note"),
            false => ("", ":text"),
        };
        [
            ("@VIRT_BASE@", self.virt_base),
            ("@LOAD@", self.load),
            ("@DELTA@", self.delta),
            ("@TEXT_FLAGS@", self.flags[0]),
            ("@DATA_FLAGS@", self.flags[1]),
            ("@DATA_ALIGNMENT@", self.data_alignment),
            ("@NOTE_HEADER@", header),
            ("@NOTE_SEGMENTS@", segments),
            ("@POOL@", self.pool),
        ]
        .iter()
        .fold(template.to_owned(), |script, (name, value)| {
            script.replace(name, value)
        })
    }
}

fn main() {
    println!("cargo:rerun-if-changed=guest.ld");
    println!("cargo:rerun-if-changed=src/bin");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return; // A host build only type-checks and lints the guests.
    }
    let directory = |variable: &str| {
        PathBuf::from(env::var_os(variable).expect("cargo sets its own directories"))
    };
    let (root, out) = (directory("CARGO_MANIFEST_DIR"), directory("OUT_DIR"));
    let template = fs::read_to_string(root.join("guest.ld")).expect("guest.ld can be read");
    for name in guests(&root.join("src/bin")) {
        let script = out.join(format!("{name}.ld"));
        fs::write(&script, layout(&name).script(&template)).expect("OUT_DIR can be written");
        println!("cargo:rustc-link-arg-bin={name}=-T{}", script.display());
    }
    for argument in ["-no-pie", "--build-id=none", "-z", "max-page-size=4096"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// The guests' names: a file or a directory each.
fn guests(sources: &Path) -> Vec<String> {
    fs::read_dir(sources)
        .expect("the guests' directory can be read")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some(path.file_stem()?.to_str()?.to_owned())
        })
        .collect()
}
