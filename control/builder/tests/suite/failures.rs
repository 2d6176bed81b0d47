//! Whatever step fails, nothing is left behind.

use crate::elf::Kind;
use crate::small::{TempInitrd, kernel, spec};
use builder::{BuildError, build};
use proptest::prelude::*;
use xen::Hypervisor;
use xen::fake::Fake;

const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

#[test]
fn a_failure_at_any_step_leaves_nothing() {
    let initrd = TempInitrd::new(9000);
    let kind = Kind {
        hypercall_page: true,
        ..Kind::default()
    };
    let kernel = kernel(kind);
    let spec = spec(&kernel, Some(&initrd.initrd), 1700);
    let fake = Fake::new(4000);
    let mut failed = 0;
    let steps = loop {
        fake.fail_at(failed, EINVAL);
        match build(&fake, &spec) {
            Err(error) => assert!(matches!(error, BuildError::Hypervisor(_)), "{error}"),
            Ok(built) => {
                let steps = fake.fail_no_more();
                fake.destroy(built.domain).unwrap();
                break steps;
            }
        }
        assert_eq!(fake.leftovers(), Vec::<String>::new(), "step {failed}");
        failed += 1;
    };
    assert_eq!(failed, steps, "every step was made to fail once");
    assert!(steps > 15, "{steps}");
    assert_eq!(fake.leftovers(), Vec::<String>::new());
}

#[test]
fn a_hypervisor_without_memory_maps_still_builds_guests() {
    let kernel = kernel(Kind::default());
    let spec = spec(&kernel, None, 1700);
    let fake = Fake::new(4000);
    // machine, create, vCPUs, most memory, map.
    fake.fail_at(4, ENOSYS);
    let built = build(&fake, &spec).unwrap();
    assert!(fake.look(built.domain).unwrap().memory_map.is_empty());
}

#[test]
fn memory_that_somebody_else_took_meanwhile_is_told_and_given_back() {
    let kernel = kernel(Kind::default());
    for pages in [1700, 1536] {
        for large in [true, false] {
            let spec = spec(&kernel, None, pages);
            let fake = Fake::new(900);
            fake.set_large_extents(large);
            fake.promise(5000);
            let error = build(&fake, &spec).unwrap_err();
            assert!(
                matches!(error, BuildError::NoMemory { need, .. } if need == pages),
                "{error}"
            );
            assert_eq!(fake.leftovers(), Vec::<String>::new());
        }
    }
}

#[test]
fn a_file_that_shrank_meanwhile_is_told_and_everything_given_back() {
    let initrd = TempInitrd::new(50_000);
    let kernel = kernel(Kind::default());
    std::fs::OpenOptions::new()
        .write(true)
        .open(&initrd.path)
        .and_then(|file| file.set_len(20_000))
        .unwrap();
    let fake = Fake::new(4000);
    let error = build(&fake, &spec(&kernel, Some(&initrd.initrd), 1700)).unwrap_err();
    assert!(matches!(error, BuildError::Initrd { .. }), "{error}");
    assert!(error.to_string().contains("xeno-builder-test"), "{error}");
    assert_eq!(fake.leftovers(), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn guests_of_any_shape_are_built_whole_or_not_at_all(
        pages in 1400u64..2600,
        initrd_len in 0usize..60_000,
        step in 0u64..40,
        machine in 1500u64..4000,
        large in any::<bool>(),
        plain in any::<bool>(),
        vcpus in 0u32..70,
    ) {
        let initrd = TempInitrd::new(initrd_len);
        let kernel = kernel(Kind { plain, hypercall_page: plain });
        let mut spec = spec(&kernel, Some(&initrd.initrd), pages);
        spec.vcpus = vcpus;
        let fake = Fake::new(machine);
        fake.set_large_extents(large);
        fake.fail_at(step, ENOMEM);
        if let Ok(built) = build(&fake, &spec) {
            fake.fail_no_more();
            prop_assert_eq!(fake.look(built.domain).unwrap().mappings, 0);
            fake.destroy(built.domain).unwrap();
        }
        prop_assert_eq!(fake.leftovers(), Vec::<String>::new());
    }
}
