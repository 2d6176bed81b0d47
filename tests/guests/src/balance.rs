//! What must be as it was: the machine's frames, before and after something that gives back all it took.

use guest_runtime::abi::DOMID_SELF;
use guest_runtime::{check, check_eq, control, say};

/// Frames by owner: nobody's, the hypervisor's, ours, all other domains'; and those taken for our sake.
pub type Frames = [u64; 5];

/// What the audit counts, none of it wrong; `None` on another hypervisor.
pub fn frames() -> Option<Frames> {
    control::audit(DOMID_SELF as u16).map(|audit| {
        check_eq!("counts that are wrong", audit.mismatches, 0);
        [
            audit.free,
            audit.hypervisor,
            audit.domain,
            audit.others,
            audit.overhead,
        ]
    })
}

/// Runs something twice: after the second time every frame must be whose it was before. What is made on first use and
/// kept is made by the first. Only the audit can tell, so on another hypervisor it just runs.
pub fn kept(what: &str, mut run: impl FnMut()) {
    run();
    let before = frames();
    run();
    let after = frames();
    if before != after {
        say!("{what}: free, the hypervisor's, ours, others', ours in the hypervisor");
        check_eq!("frames are whose they were", after, before);
    } else {
        check!(true, what);
    }
}
