//! Compares the C header of the Linux module (`linux-patches/xeno/xeno.h`) with the crate: programs and the module
//! pass the hypervisor's structures as they are.
//!
//! A C program that includes the header is compiled with the host's `cc`; what it prints must be what the crate says.
//! Where there is no compiler, or no headers of Linux for programs, the comparison says `SKIPPED` on the error output.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use guest_abi::domid::DOMID_SELF;
use guest_abi::reserve::*;
use guest_abi::usage::*;
use guest_abi::usage_area::*;
use guest_abi::wire::Field;
use guest_abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_abi::{Hypercall, Wire};

/// A structure: its name in C, its size and fields here.
type Layout = (&'static str, usize, &'static [Field]);

fn layouts() -> Vec<Layout> {
    vec![
        ("xeno_usage", Usage::SIZE, Usage::FIELDS),
        ("xeno_usage_frame", UsageFrame::SIZE, UsageFrame::FIELDS),
        ("xeno_usage_held", UsageHeld::SIZE, UsageHeld::FIELDS),
        (
            "xeno_usage_besides",
            UsageBesides::SIZE,
            UsageBesides::FIELDS,
        ),
        (
            "xeno_usage_traffic",
            UsageTraffic::SIZE,
            UsageTraffic::FIELDS,
        ),
        ("xeno_usage_head", UsageHead::SIZE, UsageHead::FIELDS),
        ("xeno_usage_row", UsageRow::SIZE, UsageRow::FIELDS),
        ("xeno_sched_terms", SchedTerms::SIZE, SchedTerms::FIELDS),
        ("xeno_sched_rules", SchedRules::SIZE, SchedRules::FIELDS),
        ("xeno_sched_get", SchedGet::SIZE, SchedGet::FIELDS),
        ("xeno_sched_set", SchedSet::SIZE, SchedSet::FIELDS),
    ]
}

fn constants() -> Vec<(&'static str, u64)> {
    let narrow: &[(&str, u32)] = &[
        ("XENO_INTERFACE_VERSION", XENO_INTERFACE_VERSION),
        ("XENO_DOMID_SELF", u32::from(DOMID_SELF)),
        ("XENO_USAGE_OF_DOMAIN", USAGE_OF_DOMAIN),
        ("XENO_USAGE_BESIDES", USAGE_BESIDES),
        ("XENO_USAGE_NO_CPU", USAGE_NO_CPU),
        ("XENO_CAUSES", USAGE_CAUSES as u32),
        ("XENO_AREA_VERSION", USAGE_AREA_VERSION),
        ("XENO_AREA_NO_CPU", u32::from(USAGE_AREA_NO_CPU)),
        ("XENO_AREA_GUARANTEED", u32::from(USAGE_AREA_GUARANTEED)),
        ("XENO_AREA_EXTRA", USAGE_AREA_EXTRA),
        ("XENO_SCHED_ALL_VCPUS", SCHED_ALL_VCPUS),
        ("XENO_SCHED_NO_CPU", SCHED_NO_CPU),
        ("XENO_SCHED_EXTRA", SCHED_EXTRA),
        ("XENO_SCHED_IN_QUANTA", SCHED_IN_QUANTA),
        ("XENO_SCHED_USUAL_WEIGHT", SCHED_USUAL_WEIGHT),
        ("XENO_SCHED_LARGEST_WEIGHT", SCHED_LARGEST_WEIGHT),
        ("XENO_SCHED_GRANTED", SCHED_GRANTED),
        ("XENO_SCHED_REFUSED_PERIOD", SCHED_REFUSED_PERIOD),
        ("XENO_SCHED_REFUSED_SLICE", SCHED_REFUSED_SLICE),
        ("XENO_SCHED_REFUSED_TOO_SHORT", SCHED_REFUSED_TOO_SHORT),
        ("XENO_SCHED_REFUSED_NEVER_RUNS", SCHED_REFUSED_NEVER_RUNS),
        ("XENO_SCHED_REFUSED_WEIGHT", SCHED_REFUSED_WEIGHT),
        ("XENO_SCHED_REFUSED_OVERFLOW", SCHED_REFUSED_OVERFLOW),
        ("XENO_SCHED_REFUSED_FLAGS", SCHED_REFUSED_FLAGS),
        ("XENO_SCHED_REFUSED_NO_CPU", SCHED_REFUSED_NO_CPU),
        ("XENO_SCHED_REFUSED_NO_ROOM", SCHED_REFUSED_NO_ROOM),
        ("XENO_SCHED_REFUSED_NOT_ALLOWED", SCHED_REFUSED_NOT_ALLOWED),
        // Of the module's own files.
        ("XENO_OP_USAGE", XenoCommand::Usage.number()),
        ("XENO_OP_USAGE_FRAME", XenoCommand::UsageFrame.number()),
        ("XENO_OP_SCHED_RULES", XenoCommand::SchedRules.number()),
        ("XENO_OP_SCHED_GET", XenoCommand::SchedGet.number()),
        ("XENO_OP_SCHED_SET", XenoCommand::SchedSet.number()),
    ];
    let widened = |&(name, value): &(&'static str, u32)| (name, u64::from(value));
    narrow.iter().map(widened).collect()
}

/// What C is asked, and what it must say. The places of causes are named as the causes are.
fn checks() -> Vec<(String, u64)> {
    let mut checks = Vec::new();
    for (name, size, fields) in layouts() {
        checks.push((format!("sizeof(struct {name})"), size as u64));
        for Field {
            name: field,
            offset,
            size,
        } in fields
        {
            checks.push((format!("offsetof(struct {name}, {field})"), *offset as u64));
            checks.push((
                format!("sizeof(((struct {name} *)0)->{field})"),
                *size as u64,
            ));
        }
    }
    for (name, value) in constants() {
        checks.push((name.to_owned(), value));
    }
    checks.push(("XENO_AREA_MAGIC".to_owned(), USAGE_AREA_MAGIC));
    for (place, name) in USAGE_CAUSE_NAMES.iter().enumerate() {
        checks.push((format!("XENO_CAUSE_{}", name.to_uppercase()), place as u64));
    }
    checks
}

/// Compiles a program and returns what it prints, or why it does not compile.
fn printed(program: &str) -> Result<String, String> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, binary) = (scratch.join("xeno.c"), scratch.join("xeno"));
    std::fs::write(&source, program).expect("the target directory can be written");
    let headers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linux-patches/xeno");
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-std=gnu11", "-I"])
        .arg(headers)
        .arg("-o")
        .arg(&binary)
        .arg(&source)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let output = Command::new(&binary).output().expect("the program runs");
    Ok(String::from_utf8(output.stdout).expect("the program prints text"))
}

#[test]
fn the_modules_header_has_the_layouts_and_numbers_of_the_crate() {
    if let Err(why) = printed("#include <linux/types.h>\nint main(void) { return 0; }\n") {
        // Past the harness, which would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED: comparison with xeno.h: {why}");
        return;
    }
    let mut program =
        String::from("#include <stddef.h>\n#include <stdio.h>\n#include \"xeno.h\"\n");
    // Once more is not too often.
    program.push_str(
        "#include \"xeno.h\"\nstruct seq_file;\n#include \"module.h\"\nint main(void) {\n",
    );
    let checks = checks();
    for (expression, _) in &checks {
        let _ = writeln!(
            program,
            "    printf(\"%llx\\n\", (unsigned long long)({expression}));"
        );
    }
    program.push_str("    return 0;\n}\n");
    let said = printed(&program).expect("the header can be compiled by itself");
    let numbers: Vec<u64> = said
        .lines()
        .map(|line| u64::from_str_radix(line, 16).expect("the program prints numbers"))
        .collect();
    assert_eq!(numbers.len(), checks.len());
    let wrong: Vec<String> = checks
        .iter()
        .zip(numbers)
        .filter(|((_, ours), number)| ours != number)
        .map(|((expression, ours), number)| {
            format!("{expression}: the header says {number:#x}, the crate {ours:#x}")
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_modules_hypercall_is_the_crates() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linux-patches/xeno/device.c");
    let source = std::fs::read_to_string(source).expect("the module is there");
    let line = format!(
        "#define __HYPERVISOR_xeno_op {}",
        Hypercall::XenoOp.number()
    );
    assert!(source.lines().any(|said| said == line));
}
