//! The builder against a hypervisor in memory.

mod failures;
mod guest;
mod refusals;
mod small;
