//! What ring 0 says about itself: console, log, symbol names, crash reports.

pub mod console;
pub mod crash;
pub mod crash_test;
pub mod log;
pub mod sections;
pub mod symbols;
