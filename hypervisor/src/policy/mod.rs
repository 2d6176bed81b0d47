//! What a guest is shown of the machine: CPUID, model-specific registers, control registers, ports - chosen here and
//! nowhere else. Hide what costs or leaks; show what pays.

pub mod control;
pub mod cpuid;
pub mod msr;
pub mod ports;
pub mod privileged;
