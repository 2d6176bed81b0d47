//! Compares every structure, operation number and constant of the crate with the public headers that the
//! distribution ships (Debian: `libxen-dev`).
//!
//! A C program made of the tables is compiled with the host's `cc`; what it prints must be what the crate
//! says. Where there is no compiler or no headers the comparison says `SKIPPED` on the error output. The test
//! of the tables themselves, that nothing of the crate is missing from them, needs neither.

mod constants;
mod layouts;
mod operations;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use constants::constants;
use layouts::layouts;
use operations::operations;

/// The headers the program includes. They expect an includer that takes the newest interface.
const PRELUDE: &str = "\
#define __XEN_TOOLS__ 1
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/domctl.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/pmu.h>
#include <xen/sched.h>
#include <xen/sysctl.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/xen-mca.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
";

/// One number the C program prints: how C says it, and what the crate says it is.
struct Check {
    expression: String,
    expected: u64,
}

/// Everything that is compared, in the order the program prints it.
fn checks() -> Vec<Check> {
    let mut checks = Vec::new();
    for layout in layouts() {
        let c_type = layout.c_type;
        if !layouts::PREFIXES.contains(&layout.name) {
            checks.push(Check {
                expression: format!("sizeof({c_type})"),
                expected: layout.size as u64,
            });
        }
        for field in layout
            .fields
            .iter()
            .filter(|field| !field.name.starts_with('_'))
        {
            let c_field = layout.c_field(field.name);
            checks.push(Check {
                expression: format!("offsetof({c_type}, {c_field})"),
                expected: field.offset as u64,
            });
            checks.push(Check {
                expression: format!("sizeof((({c_type} *)0)->{c_field})"),
                expected: field.size as u64,
            });
        }
    }
    for operation in operations() {
        checks.push(Check {
            expression: operation.c_name,
            expected: operation.number,
        });
    }
    for constant in constants() {
        checks.push(Check {
            expression: constant.c_name.to_owned(),
            expected: constant.value,
        });
    }
    checks
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Says why the comparison cannot be made, past the harness, which would swallow it.
fn say_skipped(why: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED: comparison with the public headers: {why}"
    );
}

/// Whether the prelude can be preprocessed here; if not, why not.
fn headers_are_here() -> Result<(), String> {
    let source = scratch("prelude.c");
    std::fs::write(&source, PRELUDE).expect("the target directory can be written");
    let output = Command::new("cc").arg("-E").arg(&source).output();
    match output {
        Err(error) => Err(format!(
            "`cc` cannot be run ({error}); install a C compiler"
        )),
        Ok(output) if !output.status.success() => {
            Err("the headers are not complete; install libxen-dev".to_owned())
        }
        Ok(_) => Ok(()),
    }
}

/// Compiles and runs the program; gives what it printed, one number a check.
fn numbers_of_the_headers(checks: &[Check]) -> Vec<u64> {
    let mut program = String::from(PRELUDE);
    program.push_str("static const unsigned long long numbers[] = {\n");
    for check in checks {
        let _ = writeln!(program, "    (unsigned long long)({}),", check.expression);
    }
    program.push_str(
        "};\nint main(void) {\n    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)\n        \
         printf(\"%llx\\n\", numbers[i]);\n    return 0;\n}\n",
    );
    let (source, binary) = (scratch("headers.c"), scratch("headers"));
    std::fs::write(&source, program).expect("the target directory can be written");
    let output = Command::new("cc")
        .arg("-w")
        .arg("-o")
        .arg(&binary)
        .arg(&source)
        .output()
        .expect("cc ran before");
    assert!(
        output.status.success(),
        "cc refuses the program:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = Command::new(&binary).output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("the program prints text");
    text.lines()
        .map(|line| u64::from_str_radix(line, 16).expect("the program prints numbers"))
        .collect()
}

#[test]
fn layouts_and_numbers_are_those_of_the_public_headers() {
    if let Err(why) = headers_are_here() {
        return say_skipped(&why);
    }
    let checks = checks();
    let numbers = numbers_of_the_headers(&checks);
    assert_eq!(numbers.len(), checks.len());
    let wrong: Vec<String> = checks
        .iter()
        .zip(numbers)
        .filter(|(check, number)| check.expected != *number)
        .map(|(check, number)| {
            format!(
                "{}: the headers say {number:#x}, we say {:#x}",
                check.expression, check.expected
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} numbers compared", checks.len());
}

#[test]
fn every_byte_of_every_structure_survives_the_codec() {
    for layout in layouts() {
        (layout.round_trip)();
    }
}

/// The crate's source files, each with the public module whose names it defines: a file in a module's folder defines
/// names of that module.
fn sources() -> Vec<(String, PathBuf)> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .expect("the sources are here")
            .map(|entry| entry.expect("the sources can be listed").path())
            .collect()
    };
    let mut files = Vec::new();
    for path in entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let module = path
            .file_stem()
            .expect("a file has a name")
            .to_string_lossy()
            .into_owned();
        let parts = if path.is_dir() {
            entries(&path)
        } else {
            vec![path]
        };
        files.extend(parts.into_iter().map(|part| (module.clone(), part)));
    }
    files
}

/// Names the sources define at top level, as `module::name`, that follow `keyword` and end at `end`.
fn defined(keyword: &str, end: char) -> Vec<String> {
    let mut names = Vec::new();
    for (module, path) in sources() {
        if module == "wire" {
            continue; // The codec and its own tests: not of the interface.
        }
        let text = std::fs::read_to_string(&path).expect("the sources can be read");
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(keyword) else {
                continue;
            };
            let Some((name, _)) = rest.split_once(end) else {
                continue;
            };
            names.push(format!("{module}::{}", name.trim()));
        }
    }
    assert!(!names.is_empty());
    names
}

#[test]
fn nothing_of_the_crate_is_missing_from_the_tables() {
    let layouts: Vec<&str> = layouts().iter().map(|layout| layout.name).collect();
    let operations: Vec<&str> = operations()
        .iter()
        .map(|operation| operation.family)
        .collect();
    let constants: Vec<&str> = constants().iter().map(|constant| constant.name).collect();
    let mut missing = Vec::new();
    for name in defined("    pub struct ", ':') {
        if !layouts.contains(&name.as_str()) && !layouts::OURS.contains(&name.as_str()) {
            missing.push(name);
        }
    }
    for name in defined("    pub enum ", ':') {
        // Our own operations, which the headers do not know.
        let is_ours = name == "xeno::XenoCommand";
        if !operations.contains(&name.as_str()) && !is_ours {
            missing.push(name);
        }
    }
    for name in defined("pub const ", ':') {
        let is_function = name.contains("::fn ") || name.contains("(");
        if !is_function
            && !constants.contains(&name.as_str())
            && !constants::OURS.contains(&name.as_str())
        {
            missing.push(name);
        }
    }
    assert!(
        missing.is_empty(),
        "not compared with the headers: {missing:?}"
    );
}
