//! What the control domain does meanwhile: it looks after both children, and does what a tool stack and a back end do.

use guest_runtime::abi::VcpuGuestContext;
use guest_runtime::builder::Child;
use guest_runtime::frames::{self, Page};
use guest_runtime::page_table;
use guest_runtime::window::Window;
use guest_runtime::{Global, child, control, events, hypercall, link};
use guests::{channels, lending};

use crate::child_side;

/// Nanoseconds without a draw after which a child counts as hanging.
const PATIENCE: u64 = 200_000_000;
/// Nanoseconds between two turns of the control domain's.
const TURN: u64 = 3_000_000;

static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

/// How a child's time ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It made all its draws.
    Answered,
    /// It shut down, or crashed.
    Stopped,
    /// It did nothing any more.
    Hung,
    /// What it kept to itself was not its own.
    Changed,
}

impl Ended {
    /// What is said of each.
    pub const NAMES: [&str; 4] = [
        "made all their draws",
        "stopped or crashed",
        "hung",
        "found their own page changed",
    ];
}

/// The control domain's part.
pub struct Watcher {
    state: u64,
    windows: [Window; 3],
    grant: (Page, Option<u32>),
    ports: [Option<u32>; 4],
    /// Calls made.
    pub calls: u64,
}

impl Watcher {
    /// With a sequence of its own.
    pub fn new(seed: u64) -> Self {
        let page = frames::allocate();
        Self {
            state: seed ^ 0x57a7_c4e5,
            windows: core::array::from_fn(|_| Window::new()),
            grant: (page, None),
            ports: [None; 4],
            calls: 0,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % end
    }

    /// Looks after both until each has ended: how.
    pub fn watch(&mut self, one: &mut Child, two: &mut Child) -> [Ended; 2] {
        let mut ended = [None; 2];
        let mut seen = [(0, events::now_ns()); 2];
        while ended.iter().any(Option::is_none) {
            for (index, child) in [&mut *one, &mut *two].into_iter().enumerate() {
                child.drain();
                if ended[index].is_some() {
                    continue;
                }
                let now = events::now_ns();
                let progress = child_side::progress(child);
                if progress != seen[index].0 {
                    seen[index] = (progress, now);
                }
                let stopped = child
                    .info()
                    .is_ok_and(|info| control::shutdown_reason(&info).is_some());
                ended[index] = if child.link().is_done() {
                    Some(match child.link().get(link::RESULT) as i64 {
                        child_side::CHANGED => Ended::Changed,
                        _ => Ended::Answered,
                    })
                } else if stopped {
                    Some(Ended::Stopped)
                } else if now - seen[index].1 > PATIENCE {
                    Some(Ended::Hung)
                } else {
                    None
                };
            }
            for _ in 0..4 {
                let child = if self.below(2) == 0 { &*one } else { &*two };
                self.act(child);
                self.calls += 1;
            }
            child::wait(&[], events::now_ns() + TURN);
        }
        ended.map(|ended| ended.unwrap_or(Ended::Hung))
    }

    /// Does one thing with a child; the answer does not matter, it may have ended.
    fn act(&mut self, child: &Child) {
        match self.below(8) {
            0 => {
                if child.pause() == 0 {
                    // SAFETY: nobody else refers to it.
                    let context = unsafe { &mut *CONTEXT.as_ptr() };
                    let vcpu = self.below(2) as u32;
                    control::get_context(child.id, vcpu, context);
                    child.run();
                }
            }
            1 | 2 => {
                let (window, pfn) = (self.below(3) as usize, self.below(child.pages()));
                let flags = if self.below(2) == 0 {
                    page_table::bits::KERNEL_RO
                } else {
                    page_table::bits::KERNEL_RW
                };
                self.windows[window].show_as(
                    child.id,
                    child.mfn(pfn),
                    flags | page_table::bits::NX,
                );
            }
            3 => {
                let window = self.below(3) as usize;
                self.windows[window].hide();
            }
            4 => self.map_grant(child),
            5 => {
                let at = self.below(4) as usize;
                self.close(at);
                let port = self.below(40) as u32;
                self.ports[at] = channels::bind_interdomain(u64::from(child.id), port).ok();
            }
            6 => {
                for port in self.ports.into_iter().flatten() {
                    hypercall::send(port);
                }
                hypercall::send(child.port());
            }
            _ => {
                let (gref, from) = (8 + self.below(16) as u32, frames::allocate());
                lending::copy_to(child.id, gref, from, 64);
                lending::copy_from(child.id, gref, from, 64);
                frames::release(from);
            }
        }
    }

    fn map_grant(&mut self, child: &Child) {
        self.unmap_grant();
        let (gref, read_only) = (8 + self.below(16) as u32, self.below(2) == 0);
        self.grant.1 = lending::map_at(self.grant.0.va(), child.id, gref, read_only).ok();
    }

    fn unmap_grant(&mut self) {
        if let Some(handle) = self.grant.1.take() {
            lending::unmap(self.grant.0.va(), handle);
        }
    }

    fn close(&mut self, at: usize) {
        if let Some(port) = self.ports[at].take() {
            channels::close(port);
        }
    }

    /// Gives back everything that is held of the children.
    pub fn let_go(&mut self) {
        for window in &self.windows {
            window.hide();
        }
        self.unmap_grant();
        for at in 0..self.ports.len() {
            self.close(at);
        }
    }
}
