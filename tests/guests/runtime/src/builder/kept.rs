//! What a parent of many keeps of each child: its number, the page they share, and the port between them. One page of the
//! pool a child, where a whole [`Child`] takes three.

use super::Child;
use crate::abi::DomctlCommand;
use crate::abi::event::Close;
use crate::abi::evtchn;
use crate::frames;
use crate::link::Link;
use crate::window::Window;
use crate::{control, hypercall};

/// A child that is built, of which nothing is kept but this. What it prints is read by nobody.
pub struct Kept {
    /// Its number.
    pub id: u16,
    window: Window,
    link: Link,
    port: u32,
}

impl Child {
    /// Gives up what is only needed to build it or to hear it: its console and the list of its frames.
    pub fn keep(mut self) -> Kept {
        self.drain();
        let (window, link) = self.link.take().expect("the child is linked");
        if let Some(relay) = self.relay.take() {
            relay.close();
        }
        hypercall::event_channel(evtchn::CLOSE, &mut Close { port: self.ends[0] });
        for list in &mut self.lists {
            if let Some(page) = list.take() {
                frames::release(page);
            }
        }
        Kept {
            id: self.id,
            window,
            link,
            port: self.ends[1],
        }
    }
}

impl Kept {
    /// The page shared with it.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Our end of the port to it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Lets it run.
    pub fn run(&self) -> i64 {
        control::simple(DomctlCommand::Unpausedomain, self.id)
    }

    /// Lets go of it and destroys it: the hypervisor's answer.
    pub fn destroy(self) -> i64 {
        self.window.close();
        hypercall::event_channel(evtchn::CLOSE, &mut Close { port: self.port });
        control::destroy(self.id)
    }
}
