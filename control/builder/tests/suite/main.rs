//! The builder against a hypervisor in memory.

#[path = "../../../kernels/tests/suite/elf.rs"]
mod elf;
mod failures;
mod guest;
mod refusals;
mod small;
