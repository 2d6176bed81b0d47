//! The record as a whole: what is written verifies, and each attack on it is found.

mod attacks;
mod beginnings;
mod files;
mod model;
mod on_disk;
mod pruned;
