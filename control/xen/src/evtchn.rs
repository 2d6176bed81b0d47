//! `/dev/xen/evtchn`: ports of a program.

use crate::privcmd::refused;
use crate::{EventChannels, Port, Result, ioctl, sys};
use guest_abi::DomId;
use guest_abi::event::Virq;
use std::ffi::c_ulong;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

const PATH: &str = "/dev/xen/evtchn";
/// Ports taken at a time.
const PORTS: usize = 256;

/// One opening of the device.
#[derive(Debug)]
pub(crate) struct Evtchn(File);

impl Evtchn {
    pub(crate) fn open() -> Result<Evtchn> {
        Ok(Evtchn(crate::open::nonblocking_device(PATH)?))
    }

    /// Makes a call whose argument is `argument`.
    fn call<T>(
        &self,
        doing: &'static str,
        domain: Option<DomId>,
        request: c_ulong,
        mut argument: T,
    ) -> Result<u32> {
        // SAFETY: each caller pairs a request with the structure it takes, of which the kernel only reads.
        let result = unsafe { sys::ioctl(self.0.as_fd(), request, (&raw mut argument).cast()) };
        let port = result.map_err(|e| refused(doing, domain, &e))?;
        // A port, or zero where there is none to tell.
        Ok(u32::try_from(port).unwrap_or(0))
    }
}

impl EventChannels for Evtchn {
    fn bind_virq(&self, virq: Virq) -> Result<Port> {
        let argument = ioctl::One(virq.number());
        self.call(
            "bind a virtual interrupt",
            None,
            ioctl::EVTCHN_BIND_VIRQ,
            argument,
        )
    }

    fn bind_interdomain(&self, domain: DomId, remote: Port) -> Result<Port> {
        let argument = ioctl::RemotePort {
            domain: u32::from(domain),
            port: remote,
        };
        let request = ioctl::EVTCHN_BIND_INTERDOMAIN;
        self.call("connect to a port", Some(domain), request, argument)
    }

    fn bind_unbound(&self, domain: DomId) -> Result<Port> {
        let argument = ioctl::One(u32::from(domain));
        let request = ioctl::EVTCHN_BIND_UNBOUND;
        self.call("make a port", Some(domain), request, argument)
    }

    fn unbind(&self, port: Port) -> Result<()> {
        self.call(
            "give a port up",
            None,
            ioctl::EVTCHN_UNBIND,
            ioctl::One(port),
        )
        .map(drop)
    }

    fn notify(&self, port: Port) -> Result<()> {
        self.call(
            "raise an event",
            None,
            ioctl::EVTCHN_NOTIFY,
            ioctl::One(port),
        )
        .map(drop)
    }

    fn pending(&self) -> Result<Vec<Port>> {
        let mut bytes = [0; PORTS * 4];
        match (&self.0).read(&mut bytes) {
            Ok(got) => Ok(bytes[..got]
                .chunks_exact(4)
                .map(|port| u32::from_ne_bytes([port[0], port[1], port[2], port[3]]))
                .collect()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Vec::new()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Vec::new()),
            Err(e) => Err(refused("take events", None, &e)),
        }
    }

    fn unmask(&self, port: Port) -> Result<()> {
        match (&self.0).write_all(&port.to_ne_bytes()) {
            Ok(()) => Ok(()),
            Err(e) => Err(refused("let a port speak again", None, &e)),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
