//! Building a second domain of this guest's own image, by the interface's own calls, and running tests in both.
//!
//! ```text
//! let mut child = builder::build(Plan::SMALL).expect("there is room for a child");
//! child.run();                                                 // it starts, and waits for steps
//! let answer = child.call(|[a, b, ..]| (a + b) as i64, [1, 2, 0, 0, 0]);  // a function that runs inside the child
//! child.start(|_| hypercall::shutdown(ShutdownReason::Reboot), [0; 5]);   // one that is not waited for
//! check_eq!("why it stopped", child.wait_shutdown(), Some(1));
//! check_eq!("its end", child.destroy(), 0);
//! ```
//!
//! The child starts with its data as the linker made it, whatever the parent did before: nothing of the parent's state
//! is in it. What it prints goes through its console ring; the parent prints each line with the child's number before
//! it whenever it waits for the child ([`Child::drain`] does it at any time).
//!
//! # Invariants
//! - U1: a build that fails undoes what it did, unless the plan says to stop there; then the child is handed out half
//!   built.
//! - U2: a build leaves nothing mapped but the child's console and link pages, which [`Child::destroy`] unmaps first.

mod image;
mod kept;
mod plan;
mod relay;

use crate::abi::event::{AllocUnbound, BindInterdomain, Close};
use crate::abi::{DOMID_SELF, DomctlCommand, Getdomaininfo, ShutdownReason, errno, evtchn, mmuext};
use crate::frames::{self, Page};
use crate::link::{self, Link, Step};
use crate::window::Window;
use crate::{check, child, control, events, hypercall, say};
use image::Layout;
use relay::Relay;

pub use image::MOST_PAGES;
pub(crate) use image::keep_data;
pub use kept::Kept;
pub use plan::{NotBuilt, Plan, Stage};

/// Nanoseconds that a parent waits for a step, or for a child's end.
const PATIENCE: u64 = 20_000_000_000;
/// Nanoseconds between two looks at a child that should have notified.
const TURN: u64 = 5_000_000;

/// A domain that this guest built.
pub struct Child {
    /// Its number.
    pub id: u16,
    layout: Layout,
    lists: [Option<Page>; image::LISTS],
    link: Option<(Window, Link)>,
    relay: Option<Relay>,
    /// The child's ports for its store, console and link.
    ports: [u32; 3],
    /// Our ends of those of its console and link.
    ends: [u32; 2],
}

fn no(stage: Stage) -> impl Fn(i64) -> Result<(), NotBuilt> {
    move |result| match result {
        0 => Ok(()),
        result => Err(NotBuilt { stage, result }),
    }
}

/// Builds a child as the plan says; paused, it waits for [`Child::run`].
///
/// # Errors
/// Which stage was refused, after everything that had been done was undone (U1).
pub fn build(plan: Plan) -> Result<Child, NotBuilt> {
    build_in(plan, control::create(&control::ordinary(plan.vcpus)))
}

/// As [`build`], in a domain that was created already.
///
/// # Errors
/// As [`build`]; a domain that could not be created is the stage after nothing.
pub fn build_in(plan: Plan, created: Result<u16, i64>) -> Result<Child, NotBuilt> {
    let id = created.map_err(|result| NotBuilt {
        stage: Stage::Created,
        result,
    })?;
    let mut child = Child {
        id,
        layout: Layout::new(plan.pages),
        lists: [None; image::LISTS],
        link: None,
        relay: None,
        ports: [0; 3],
        ends: [0; 2],
    };
    let window = Window::new();
    let built = child.make(&plan, &window);
    window.close();
    match built {
        Ok(()) => Ok(child),
        Err(error) => {
            let ended = child.destroy();
            assert!(ended == 0, "a child that could not be built stays: {ended}");
            Err(error)
        }
    }
}

impl Child {
    fn make(&mut self, plan: &Plan, window: &Window) -> Result<(), NotBuilt> {
        let stages: [fn(&mut Self, &Plan, &Window) -> i64; 11] = [
            |child, plan, _| control::max_vcpus(child.id, plan.vcpus),
            |child, plan, _| control::max_mem(child.id, plan.pages),
            |child, _, _| child.populate(0),
            |child, _, _| child.populate(1),
            |child, plan, window| child.fill(plan, window),
            |child, _, window| child.write_tables(window),
            |child, _, _| control::mmuext_for(mmuext::PIN_L4, child.root(), child.id),
            |child, _, _| child.open_ports(),
            |child, plan, window| child.finish_pages(plan, window),
            |child, _, _| child.set_context(),
            |child, _, _| child.connect(),
        ];
        for (make, stage) in stages.into_iter().zip(Stage::ALL.into_iter().skip(2)) {
            if stage > plan.until {
                break;
            }
            no(stage)(make(self, plan, window))?;
        }
        Ok(())
    }

    /// The machine frame of one of its pages.
    pub fn mfn(&self, pfn: u64) -> u64 {
        let list = self.lists[(pfn / 512) as usize].expect("its memory was populated");
        list.read((pfn % 512) as usize)
    }

    /// The machine frame of its root table.
    pub fn root(&self) -> u64 {
        self.mfn(self.layout.tables())
    }

    /// How many pages it was built with.
    pub fn pages(&self) -> u64 {
        self.layout.pages
    }

    /// The first of its pages that nothing uses: the runtime's pool, which it takes pages from in order.
    pub fn unused_page(&self) -> u64 {
        255
    }

    /// Opens, on the child's behalf, ports for its store, its console and its link.
    fn open_ports(&mut self) -> i64 {
        for port in &mut self.ports {
            let mut open = AllocUnbound {
                dom: self.id,
                remote_dom: DOMID_SELF as u16,
                port: 0,
            };
            let result = hypercall::event_channel(evtchn::ALLOC_UNBOUND, &mut open);
            if result != 0 {
                return result;
            }
            *port = open.port;
        }
        0
    }

    /// Binds our ends of its console and link, and maps the two pages.
    fn connect(&mut self) -> i64 {
        for (end, port) in self.ends.iter_mut().zip([self.ports[1], self.ports[2]]) {
            let mut bind = BindInterdomain {
                remote_dom: self.id,
                remote_port: port,
                ..BindInterdomain::default()
            };
            let result = hypercall::event_channel(evtchn::BIND_INTERDOMAIN, &mut bind);
            if result != 0 {
                return result;
            }
            *end = bind.local_port;
        }
        let window = Window::new();
        let result = window.show(self.id, self.mfn(self.layout.link()));
        let link = Link {
            address: window.va(),
        };
        self.link = Some((window, link));
        if result != 0 {
            return result;
        }
        let window = Window::new();
        let result = window.show(self.id, self.mfn(self.layout.console()));
        self.relay = Some(Relay::new(self.id, window));
        result
    }

    /// Lets it run.
    pub fn run(&self) -> i64 {
        control::simple(DomctlCommand::Unpausedomain, self.id)
    }

    /// Stops it until [`Child::run`]; counted.
    pub fn pause(&self) -> i64 {
        control::simple(DomctlCommand::Pausedomain, self.id)
    }

    /// What the hypervisor says of it.
    pub fn info(&self) -> Result<Getdomaininfo, i64> {
        control::info(self.id)
    }

    /// The page shared with it.
    pub fn link(&self) -> Link {
        self.link.as_ref().expect("the child is linked").1
    }

    /// Our end of the port to it.
    pub fn port(&self) -> u32 {
        self.ends[1]
    }

    /// Has the child run a step, and does not wait.
    pub fn start(&mut self, step: Step, arguments: [u64; 5]) {
        self.link().ask(step, arguments);
        hypercall::send(self.port());
    }

    /// Has the child run a step, and waits for its answer.
    ///
    /// A child that stops instead, or never answers, fails the test and answers `i64::MIN`.
    pub fn call(&mut self, step: Step, arguments: [u64; 5]) -> i64 {
        self.start(step, arguments);
        match self.answer() {
            Some(answer) => answer,
            None => {
                let end = self.info().map(|info| (info.flags, info.tot_pages));
                check::fail(format_args!("child {} gave no answer: {end:x?}", self.id));
                i64::MIN
            }
        }
    }

    /// Has the child run a step that makes checks of its own; counts as one check here.
    pub fn check(&mut self, what: &str, step: Step, arguments: [u64; 5]) -> bool {
        let count = |_| i64::from(check::failures()) << 32 | i64::from(check::passed());
        let before = self.call(count, [0; 5]);
        self.call(step, arguments);
        let made = self.call(count, [0; 5]) - before;
        say!(
            "{}: {what}: {} checks in domain {}",
            check::name(),
            made & 0xffff_ffff,
            self.id
        );
        check::condition(what, made > 0 && made >> 32 == 0)
    }

    /// Waits for the answer of the step that was started; `None` if the child stops or takes too long.
    pub fn answer(&mut self) -> Option<i64> {
        let link = self.link();
        self.wait_until(|_| link.is_done())
            .then(|| link.get(link::RESULT) as i64)
    }

    /// Waits until the child has shut down: the reason, or `None` if it does not.
    pub fn wait_shutdown(&mut self) -> Option<u32> {
        self.wait_until(|_| false);
        self.info()
            .ok()
            .and_then(|info| control::shutdown_reason(&info))
    }

    /// Sleeps, printing what the child prints, until a condition holds: whether it does. It ends without it when the
    /// child has stopped or patience ends.
    pub fn wait_until(&mut self, holds: impl Fn(&Self) -> bool) -> bool {
        let end = events::now_ns() + PATIENCE;
        loop {
            for port in self.ends {
                events::clear_port(port);
            }
            self.drain();
            if holds(self) {
                return true;
            }
            let stopped = self
                .info()
                .map_or(true, |info| control::shutdown_reason(&info).is_some());
            let now = events::now_ns();
            if stopped || now > end {
                self.drain();
                return holds(self);
            }
            child::wait(&self.ends, now + TURN);
        }
    }

    /// Prints what the child has printed.
    pub fn drain(&mut self) {
        if let Some(relay) = &mut self.relay
            && relay.drain()
        {
            hypercall::send(self.ends[0]); // It may wait for room.
        }
    }

    /// Types on the child's console.
    pub fn type_in(&mut self, text: &[u8]) {
        if let Some(relay) = &mut self.relay {
            relay.type_in(text);
            hypercall::send(self.ends[0]);
        }
    }

    /// Takes what the child prints and prints nothing of it: for children that are expected to fail.
    pub fn hush(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.quiet = true;
        }
    }

    /// Unmaps what we have of the child, and closes our ports to it.
    pub fn let_go(&mut self) {
        self.drain();
        if let Some((window, _)) = self.link.take() {
            window.close();
        }
        if let Some(relay) = self.relay.take() {
            relay.close();
        }
        for end in &mut self.ends {
            if *end != 0 {
                hypercall::event_channel(evtchn::CLOSE, &mut Close { port: *end });
                *end = 0;
            }
        }
        for list in &mut self.lists {
            if let Some(page) = list.take() {
                frames::release(page);
            }
        }
    }

    /// Lets go of the child and destroys it: the hypervisor's answer.
    pub fn destroy(mut self) -> i64 {
        self.let_go();
        control::destroy(self.id)
    }

    /// As [`Child::destroy`], and waits until no domain has its number any more: whether that came.
    pub fn destroy_and_wait(self) -> bool {
        let id = self.id;
        self.destroy() == 0 && is_gone_soon(id)
    }
}

/// Waits until no domain has this number: whether that came.
pub fn is_gone_soon(id: u16) -> bool {
    let end = events::now_ns() + PATIENCE;
    while events::now_ns() < end {
        if control::info(id) == Err(-errno::ESRCH) {
            return true;
        }
        child::wait(&[], events::now_ns() + TURN);
    }
    say!("domain {id} is still there");
    false
}

/// A child that is wanted for what it does, not for how it is built: built, running, and serving steps.
pub fn running(plan: Plan) -> Option<Child> {
    match build(plan) {
        Ok(child) => {
            let result = child.run();
            check::compare("a child is let run", result, 0).then_some(child)
        }
        Err(error) => {
            check::fail(format_args!("a child could not be built: {error:?}"));
            None
        }
    }
}

/// The reason of a shutdown as [`Child::wait_shutdown`] gives it.
pub fn reason(reason: ShutdownReason) -> Option<u32> {
    Some(reason.number())
}
