//! The daemon of the control domain: it builds guests, serves them, and ends them.
//!
//! ```text
//!   /run/xeno/xenod.sock ──▶ api ──▶ task (one a guest) ──▶ make, ending ──▶ builder, hypervisor, devices
//!   /run/xenstored/socket ─▶ store_socket ─┐
//!   event channels ────────▶ ports ────────┼─▶ store_host ──▶ the store
//!                              └───────────┼─▶ console
//!   STATE ─────────────────▶ state ──▶ recovery
//!   LEDGER ◀── accounting ◀── the hypervisor's accounts
//! ```
//!
//! What is decided is separate from what is done: `life`, `nodes`, `disk` and `console` are values and text. What is
//! done goes through interfaces: the hypervisor's (`xen`), [`builders::Builder`], [`devices::Devices`]; tests put
//! others in their places.

pub mod accounting;
pub mod api;
pub mod builders;
pub mod console;
mod cpu;
pub mod daemon;
pub mod devices;
pub mod disk;
mod ending;
pub mod guest;
pub mod life;
pub mod log;
mod loops;
mod make;
pub mod nodes;
mod orders;
pub mod page;
pub mod ports;
mod recovery;
pub mod state;
pub mod store_client;
pub mod store_host;
pub mod store_socket;
mod task;
#[cfg(test)]
mod tests;
pub mod uuid;
