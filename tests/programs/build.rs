//! Gives the linker the programs' layout, when they are built for the bare machine.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=program.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return; // A host build only type-checks and lints the programs.
    }
    let root = PathBuf::from(
        env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory"),
    );
    println!(
        "cargo:rustc-link-arg-bins=-T{}",
        root.join("program.ld").display()
    );
    for argument in ["-no-pie", "--build-id=none", "-z", "max-page-size=4096"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
