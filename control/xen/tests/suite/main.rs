//! Mappings and the hypervisor in memory.

mod fake;
mod mapping;

use xen::fake::Fake;
use xen::{DomId, Hypervisor, NewDomain};

/// A machine and a domain on it with `pages` pages.
fn domain_with(pages: u64) -> (Fake, DomId, Vec<u64>) {
    let fake = Fake::new(pages + 10);
    let domain = fake.create_domain(&NewDomain::new([1; 16], 1)).unwrap();
    fake.set_max_pages(domain, pages).unwrap();
    let mut frames: Vec<u64> = (0..pages).collect();
    assert_eq!(fake.populate(domain, 0, &mut frames).unwrap() as u64, pages);
    (fake, domain, frames)
}
