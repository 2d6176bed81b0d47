//! The store in service, from outside: what clients see, also hostile ones, also across the death of the process.

#![forbid(unsafe_code)]

mod conformance;
mod crash;
mod domains;
mod garbage;
mod guest;
mod harness;
mod hostile;
mod limits;
mod model;
mod plain;
mod tools;
mod transactions;
mod watches;
