//! The hypervisor in memory keeps the rules that others are tested against.

use crate::domain_with;
use guest_abi::event::Virq;
use xen::{Access, Hypervisor, ShutdownReason, State};

#[test]
fn a_domain_lingers_while_its_memory_is_mapped() {
    let (fake, domain, frames) = domain_with(3);
    let events = fake.event_channels().unwrap();
    let port = events.bind_virq(Virq::DomExc).unwrap();
    let mapping = fake.map_frames(domain, &frames, Access::Read).unwrap();
    fake.destroy(domain).unwrap();
    assert_eq!(events.pending().unwrap(), [port]);
    let info = fake.domain(domain).unwrap().unwrap();
    assert_eq!(info.state(), State::Dying);
    assert!(fake.map_frames(domain, &frames, Access::Read).is_err());
    drop(mapping);
    assert_eq!(fake.domain(domain).unwrap(), None);
    assert_eq!(fake.leftovers(), Vec::<String>::new());
    // Silent until it is unmasked, and not forgotten.
    assert!(events.pending().unwrap().is_empty());
    events.unmask(port).unwrap();
    assert_eq!(events.pending().unwrap(), [port]);
}

#[test]
fn memory_is_bounded_and_comes_back_clean() {
    let (fake, domain, frames) = domain_with(3);
    fake.write_frame(frames[1], 5, b"secret");
    assert_eq!(fake.populate(domain, 0, &mut [3]).unwrap(), 0);
    fake.destroy(domain).unwrap();
    let mut bytes = [1; 16];
    fake.read_frame(frames[1], 0, &mut bytes);
    assert_eq!(bytes, [0; 16]);
}

#[test]
fn others_memory_is_not_mapped() {
    let (fake, domain, frames) = domain_with(3);
    // The machine's last one, which nobody has.
    let stranger = 12;
    assert!(!frames.contains(&stranger));
    for frames in [&[frames[0], stranger][..], &[u64::MAX], &[]] {
        assert!(fake.map_frames(domain, frames, Access::Read).is_err());
    }
    assert_eq!(fake.look(domain).unwrap().mappings, 0);
}

#[test]
fn events_go_both_ways_until_one_end_is_closed() {
    let (fake, domain, _) = domain_with(1);
    let remote = fake.alloc_unbound(domain, 0).unwrap();
    let events = fake.event_channels().unwrap();
    let port = events.bind_interdomain(domain, remote).unwrap();
    assert_eq!(events.pending().unwrap(), [port], "pending at once");
    assert!(events.bind_interdomain(domain, remote).is_err());
    events.notify(port).unwrap();
    events.notify(port).unwrap();
    assert_eq!(fake.take_notified(domain, remote), 2);
    events.unmask(port).unwrap();
    fake.notify(domain, remote);
    assert_eq!(events.pending().unwrap(), [port]);
    let other = fake.event_channels().unwrap();
    assert!(other.notify(port).is_err(), "it is another opening's");
    drop(events);
    assert!(other.bind_interdomain(domain, remote).is_ok());
}

#[test]
fn a_shutdown_is_told_with_its_reason() {
    let (fake, domain, _) = domain_with(1);
    fake.shut_down(domain, ShutdownReason::Reboot).unwrap();
    let info = fake.domain(domain).unwrap().unwrap();
    assert_eq!(info.state(), State::Shutdown(ShutdownReason::Reboot));
    let error = fake.pause(domain + 1).unwrap_err();
    assert!(error.is_no_domain());
}
