//! What the command line must and must not do.

use super::*;
extern crate std;
use std::{format, string::String, vec::Vec};

fn parse(line: &str) -> (Params, Vec<String>) {
    let mut warnings = Vec::new();
    let params = Params::parse(line, &mut |warning| warnings.push(format!("{warning}")));
    (params, warnings)
}

fn silent(line: &str) -> Params {
    let (params, warnings) = parse(line);
    assert!(warnings.is_empty(), "{warnings:?}");
    params
}

#[test]
fn nothing_said_means_the_defaults() {
    assert_eq!(silent("   "), Params::default());
}

#[test]
fn every_word_an_admin_knows_is_taken() {
    let params = silent(
        "console=com2 com2=9600,7e2,0x2e8 com1=38400 dom0_mem=512M,max:1G dom0_max_vcpus=64 dom0_overhead=64K noreboot dom0_crash=restart loglvl=all isolate=no smap=yes pcid=no \
         exit_port=0xf4 irq_ratelimit=50 tsc=stable crash_test=stack maxcpus=4 cpus=first dom0_cpu=3ms/30ms,extra quantum=1ms section=15us reserve=30000 nosmp smp_test=flush measure=sections",
    );
    assert_eq!(params.console, Console::Com2);
    assert_eq!(
        params.com2,
        Serial {
            baud: 9600,
            data_bits: 7,
            parity: Parity::Even,
            stop_bits: 2,
            port: 0x2e8
        }
    );
    assert_eq!(
        (params.com1.baud, params.com1.port, params.com1.divisor()),
        (38400, 0x3f8, 3)
    );
    assert_eq!(
        params.dom0_mem,
        Dom0Memory {
            size: Some(512 << 20),
            min: None,
            max: Some(1 << 30)
        }
    );
    assert_eq!(params.dom0_max_vcpus, 64);
    assert_eq!(params.dom0_overhead, 64 << 10);
    assert!(params.noreboot);
    assert_eq!(params.dom0_crash, Some(OnCrash::Restart));
    assert_eq!(silent("dom0_crash=halt").dom0_crash, Some(OnCrash::Halt));
    assert_eq!(
        silent("dom0_crash=reboot").dom0_crash,
        Some(OnCrash::Reboot)
    );
    assert_eq!(params.loglvl, LogLevel::Debug);
    assert_eq!((params.isolate, params.smap), (Choice::No, Choice::Yes));
    assert_eq!(params.pcid, Choice::No);
    assert_eq!(params.exit_port, Some(0xf4));
    assert_eq!(params.irq_ratelimit, 50);
    assert_eq!(params.tsc, Tsc::Stable);
    assert_eq!(params.crash_test, Some(CrashTest::Stack));
    assert_eq!((params.max_cpus, params.nosmp), (Some(4), true));
    assert_eq!(params.cpus, Cpus::First);
    let asked = |extra| Dom0Cpu::Slice {
        slice_ns: 3_000_000,
        period_ns: 30_000_000,
        extra,
    };
    assert_eq!(params.dom0_cpu, asked(true));
    assert_eq!(silent("dom0_cpu=3ms/30ms").dom0_cpu, asked(false));
    assert_eq!(silent("dom0_cpu=none").dom0_cpu, Dom0Cpu::None);
    assert_eq!((params.quantum_ns, params.section_ns), (1_000_000, 15_000));
    assert_eq!(params.reserve_ppm, 30_000);
    assert_eq!(params.smp_test, Some(SmpTest::Flush));
    assert_eq!(params.measure, Some(Measure::Sections));
}

#[test]
fn forms_that_xen_tolerates_are_tolerated() {
    assert_eq!(
        silent("com1=115200,8n1,0x3f8,4").com1,
        Params::default().com1
    );
    assert_eq!(silent("loglvl=error/warning").loglvl, LogLevel::Error);
    assert_eq!(silent("smap=0").smap, Choice::No);
    assert_eq!(silent("dom0_mem=524288").dom0_mem.size, Some(512 << 20));
    assert_eq!(
        silent("dom0_mem=max:512M").dom0_mem,
        Dom0Memory {
            max: Some(512 << 20),
            ..Default::default()
        }
    );
    assert_eq!(silent("dom0_mem=min:1G,max:2G").dom0_mem.min, Some(1 << 30));
}

#[test]
fn each_bad_word_costs_one_warning_that_names_it_and_its_default_holds() {
    for word in [
        "frobnicate",
        "frobnicate=1",
        "com1=",
        "com1=115200,9n1",
        "com1=115200,8n1,0x3f8,4,x",
        "com1=115201",
        "com1=0",
        "com1=1",
        "com1=115200,8x1",
        "com1=115200,8n",
        "com1=115200,8n1,0",
        "dom0_mem=",
        "dom0_mem=lots",
        "dom0_mem=0",
        "dom0_mem=512M,",
        "dom0_mem=max:",
        "dom0_mem=min:2G,max:1G",
        "dom0_mem=-1",
        "dom0_mem=99999999999T",
        "dom0_max_vcpus",
        "dom0_max_vcpus=0",
        "dom0_max_vcpus=65",
        "dom0_max_vcpus=4294967297",
        "dom0_max_vcpus=1-4",
        "dom0_overhead=4095B",
        "dom0_overhead",
        "loglvl=loud",
        "loglvl",
        "isolate=perhaps",
        "smap",
        "exit_port=0x10000",
        "exit_port=",
        "tsc=ok",
        "crash_test",
        "crash_test=yes",
        "noreboot=so",
        "dom0_crash",
        "dom0_crash=again",
        "dom0_cpu",
        "dom0_cpu=all",
        "dom0_cpu=2ms",
        "dom0_cpu=20ms/2ms",
        "dom0_cpu=0ms/20ms",
        "dom0_cpu=2ms/2s",
        "dom0_cpu=2ms/20ms,more",
        "quantum=0ms",
        "quantum=2s",
        "quantum=10",
        "section=201us",
        "section=999ns",
        "reserve=500001",
        "reserve=2%",
        "console=vga",
        "console=",
        "=",
        "é=1",
    ] {
        let (params, warnings) = parse(word);
        assert_eq!(warnings.len(), 1, "{word}: {warnings:?}");
        assert!(
            warnings[0].contains(&format!("`{word}`")),
            "{word}: {warnings:?}"
        );
        assert_eq!(params, Params::default(), "{word}");
    }
}

#[test]
fn a_console_we_do_not_have_is_named_and_the_others_are_used() {
    let (params, warnings) = parse("console=vga,com2");
    assert_eq!(params.console, Console::Com2);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn parsing_goes_on_after_a_bad_word_and_the_last_good_one_holds() {
    let (params, warnings) = parse("loglvl=error bogus loglvl=warning loglvl=loud dom0_mem=1G");
    assert_eq!(warnings.len(), 2);
    assert_eq!(params.loglvl, LogLevel::Warning);
    assert_eq!(params.dom0_mem.size, Some(1 << 30));
}

#[test]
fn a_quantum_shorter_than_a_section_costs_a_warning_and_both_are_as_usual() {
    let (params, warnings) = parse("section=100us quantum=50us");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(params, Params::default());
    assert_eq!(silent("section=100us quantum=100us").quantum_ns, 100_000);
}
