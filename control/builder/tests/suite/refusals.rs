//! What cannot be built is refused in a sentence, before anything is created.

use crate::elf::Kind;
use crate::small::{TempInitrd, kernel, spec};
use builder::{Initrd, Spec, build};
use xen::fake::Fake;

/// The sentence with which this is refused on a machine of 8000 pages.
fn refusal(change: impl FnOnce(&mut Spec<'_>)) -> String {
    let kernel = kernel(Kind::default());
    let initrd = TempInitrd::new(1 << 20);
    let mut spec = spec(&kernel, Some(&initrd.initrd), 2000);
    change(&mut spec);
    let fake = Fake::new(8000);
    // Asking what the machine has is no harm; the first step behind it would create something.
    fake.fail_at(1, 5);
    let error = build(&fake, &spec).unwrap_err().to_string();
    assert!(fake.fail_no_more() <= 1, "{error}");
    assert!(!error.ends_with('.') && !error.contains('\n'), "{error}");
    error
}

#[test]
fn each_refusal_names_the_thing_and_the_remedy() {
    let long = vec![b'x'; 1024];
    for (error, expected) in [
        (
            refusal(|spec| spec.vcpus = 0),
            "0 vCPUs were asked for: a guest has 1 to 64",
        ),
        (
            refusal(|spec| spec.vcpus = 65),
            "65 vCPUs were asked for: a guest has 1 to 64",
        ),
        (
            refusal(|spec| spec.command_line = b"a\0b"),
            "the kernel's command line has a NUL in it: remove it",
        ),
        (
            refusal(|spec| spec.pages = 600),
            "kernel and initrd need 6 MiB and the guest has 2 MiB: give it more memory",
        ),
        (
            refusal(|spec| (spec.pages, spec.max_pages) = (9000, 9000)),
            "the guest needs 36 MiB and the machine has 31 MiB free: give it less, or free some by ending or \
             shrinking another guest",
        ),
        (
            refusal(|spec| spec.max_pages = 1000),
            "the guest starts with 7 MiB but may have only 3 MiB: raise its maximum",
        ),
        (
            refusal(|spec| (spec.pages, spec.max_pages) = (u64::MAX, u64::MAX)),
            "72057594037927935 MiB were asked for, and a guest can have at most 1048576 MiB",
        ),
    ] {
        assert_eq!(error, expected);
    }
    let kernel = kernel(Kind::default());
    let mut spec = spec(&kernel, None, 2000);
    spec.command_line = &long;
    assert_eq!(
        build(&Fake::new(4000), &spec).unwrap_err().to_string(),
        "the kernel's command line has 1024 bytes, and at most 1023 fit: shorten it"
    );
}

#[test]
fn an_initrd_that_is_no_file_is_refused_when_it_is_opened() {
    assert!(Initrd::open(&std::env::temp_dir()).is_err());
    assert!(Initrd::open("/does/not/exist".as_ref()).is_err());
}
