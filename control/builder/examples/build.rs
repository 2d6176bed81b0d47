//! Builds one guest, lets it run and shows its console, without a daemon: `build KERNEL [INITRD [MIB [VCPUS [WORDS]]]]`.
//!
//! For trying the builder where there is nothing else yet. It serves no store, so the guest's drivers for disks and
//! network find nothing. Ends when the guest does, and destroys it; also after `SECONDS` seconds, if that is set.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use builder::{Initrd, Limits, Spec};
use guest_abi::console::XenconsInterface;
use guest_abi::event::Virq;
use kernels::Cache;
use std::mem::offset_of;
use xen::{Access, Hypervisor, Mapping, State, Xen};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("build: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |n: usize| arguments.get(n).map(String::as_str);
    let kernel = argument(0).ok_or("usage: build KERNEL [INITRD [MIB [VCPUS [WORDS]]]]")?;
    let mib: u64 = argument(2).unwrap_or("256").parse()?;
    let words = argument(4).unwrap_or("console=hvc0 earlyprintk=xen panic=-1");

    let begin = Instant::now();
    let hypervisor = Xen::open()?;
    let cache = Cache::new(Path::new("/var/cache/xeno"), Cache::DEFAULT_LIMIT);
    let kernel = cache.kernel(Path::new(kernel))?;
    eprintln!("build: kernel ready after {:?}", begin.elapsed());
    let initrd = argument(1)
        .filter(|path| !path.is_empty())
        .map(|path| {
            Initrd::open(Path::new(path))
                .map_err(|e| format!("the initrd {path} cannot be read: {e}"))
        })
        .transpose()?;
    let built = builder::build(
        &hypervisor,
        &Spec {
            kernel: &kernel,
            initrd: initrd.as_ref(),
            command_line: words.as_bytes(),
            pages: mib << 8,
            max_pages: mib << 8,
            vcpus: argument(3).unwrap_or("1").parse()?,
            handle: [7; 16],
            limits: Limits::default(),
            console_domain: 0,
            store_domain: 0,
        },
    )?;
    eprintln!("build: {built:x?} after {:?}", begin.elapsed());
    let result = run(&hypervisor, built.domain, built.console.port, begin);
    hypervisor.destroy(built.domain)?;
    eprintln!(
        "build: {} MiB free after all",
        hypervisor.machine()?.free_pages >> 8
    );
    result
}

fn run(
    hypervisor: &Xen,
    domain: xen::DomId,
    port: xen::Port,
    begin: Instant,
) -> Result<(), Box<dyn Error>> {
    let events = hypervisor.event_channels()?;
    let ring = hypervisor.map_grants(domain, &[0], Access::Write)?;
    let console = events.bind_interdomain(domain, port)?;
    if let Err(error) = events.bind_virq(Virq::DomExc) {
        eprintln!("build: {error}");
    }
    hypervisor.unpause(domain)?;
    let limit = std::env::var("SECONDS").ok().and_then(|s| s.parse().ok());
    let limit = Duration::from_secs(limit.unwrap_or(u64::MAX / 4));
    loop {
        if drain(&ring)? {
            events.notify(console)?;
        }
        for port in events.pending()? {
            events.unmask(port)?;
        }
        let Some(info) = hypervisor.domain(domain)? else {
            return Err("the guest is gone".into());
        };
        if !matches!(info.state(), State::Running | State::Blocked) || begin.elapsed() > limit {
            drain(&ring)?;
            eprintln!("build: it ended: {:?}", info.state());
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes what the guest has written; whether that was anything.
fn drain(ring: &Mapping) -> std::io::Result<bool> {
    let written = ring.load(offset_of!(XenconsInterface, out_prod));
    let mut read = ring.load(offset_of!(XenconsInterface, out_cons));
    let mut text = Vec::new();
    while read != written && text.len() < 4096 {
        let mut byte = [0];
        let at = read as usize % 2048;
        ring.read(offset_of!(XenconsInterface, out) + at, &mut byte);
        text.push(byte[0]);
        read = read.wrapping_add(1);
    }
    ring.store(offset_of!(XenconsInterface, out_cons), read);
    let mut out = std::io::stdout().lock();
    out.write_all(&text)?;
    out.flush()?;
    Ok(!text.is_empty())
}
