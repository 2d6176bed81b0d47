//! The daemon as a whole, on the host: the fake hypervisor below it, and nobody's devices.

mod accounting;
mod client;
mod cpu;
mod guests;
mod kills;
mod mortal;
mod sessions;
mod world;
