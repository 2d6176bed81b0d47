//! Reservations of CPU time: arguments of [`XenoCommand::SchedRules`](crate::xeno::XenoCommand::SchedRules),
//! [`SchedGet`](crate::xeno::XenoCommand::SchedGet), [`SchedSet`](crate::xeno::XenoCommand::SchedSet),
//! [`SchedCpu`](crate::xeno::XenoCommand::SchedCpu) and [`SchedAllow`](crate::xeno::XenoCommand::SchedAllow).
//!
//! Times are nanoseconds of system time, the clock that guests are shown; nothing is rounded on the way in. What a
//! reservation promises is in `docs/scheduling.md`.

use crate::wire::wire_struct;

/// In [`SchedGet::vcpu`] and [`SchedSet::vcpu`]: all vCPUs of the domain.
pub const SCHED_ALL_VCPUS: u32 = u32::MAX;
/// In [`SchedGet::cpu`]: none in particular.
pub const SCHED_NO_CPU: u32 = u32::MAX;

/// In [`SchedTerms::flags`]: the vCPU takes part in time that nobody reserved, by its weight.
pub const SCHED_EXTRA: u32 = 1 << 0;
/// In [`SchedTerms::flags`]: slice and period are numbers of the advertised quantum, not nanoseconds. Without
/// [`SCHED_EXTRA`], and with the usual weight. Only asked for; told are nanoseconds always.
pub const SCHED_IN_QUANTA: u32 = 1 << 1;
/// All of [`SchedTerms::flags`] there are.
pub const SCHED_FLAGS: u32 = SCHED_EXTRA | SCHED_IN_QUANTA;

/// The weight of those who ask for none in particular.
pub const SCHED_USUAL_WEIGHT: u32 = 256;
/// The largest weight.
pub const SCHED_LARGEST_WEIGHT: u32 = 65_535;

/// In [`SchedRules::set`]: make [`SchedRules::quantum`] the machine's quantum.
pub const SCHED_SET_QUANTUM: u32 = 1 << 0;

/// In [`SchedCpu::flags`]: the CPU takes vCPUs.
pub const SCHED_CPU_ONLINE: u32 = 1 << 0;

/// In [`SchedSet::refusal`]: it was not refused.
pub const SCHED_GRANTED: u32 = 0;
/// In [`SchedSet::refusal`]: the period is shorter than the shortest or longer than the longest. `-ERANGE`.
pub const SCHED_REFUSED_PERIOD: u32 = 1;
/// In [`SchedSet::refusal`]: the slice is longer than the period. `-EINVAL`.
pub const SCHED_REFUSED_SLICE: u32 = 2;
/// In [`SchedSet::refusal`]: the slice is shorter than the longest section, and not 0. `-ERANGE`.
pub const SCHED_REFUSED_TOO_SHORT: u32 = 3;
/// In [`SchedSet::refusal`]: no slice and no extra time: it would never run. `-EINVAL`.
pub const SCHED_REFUSED_NEVER_RUNS: u32 = 4;
/// In [`SchedSet::refusal`]: the weight is 0 or too large, or not the usual where there is no choice. `-EINVAL`.
pub const SCHED_REFUSED_WEIGHT: u32 = 5;
/// In [`SchedSet::refusal`]: so many quanta are no time. `-EOVERFLOW`.
pub const SCHED_REFUSED_OVERFLOW: u32 = 6;
/// In [`SchedSet::refusal`]: unknown flags, or flags that exclude each other. `-EINVAL`.
pub const SCHED_REFUSED_FLAGS: u32 = 7;
/// In [`SchedSet::refusal`]: none of the CPUs that the vCPU may run on takes vCPUs. `-ENODEV`.
pub const SCHED_REFUSED_NO_CPU: u32 = 8;
/// In [`SchedSet::refusal`]: no CPU has room: [`SchedSet::largest_slice`] has the most there is. `-ENOSPC`.
pub const SCHED_REFUSED_NO_ROOM: u32 = 9;
/// In [`SchedSet::refusal`]: a domain asked for itself, for more than it may: [`SchedSet::largest_slice`] has the most it
/// may, if that is why. `-EPERM`.
pub const SCHED_REFUSED_NOT_ALLOWED: u32 = 10;

/// The most that [`SchedAllow::rate`] can say: as many CPUs as a domain has vCPUs at most, in nanoseconds of each second.
pub const SCHED_LARGEST_RATE: u64 = 64_000_000_000;

wire_struct! {
    /// What a vCPU can have: at least the slice of CPU time in every period while it can run, and at most that without
    /// [`SCHED_EXTRA`].
    pub struct SchedTerms: 24 {
        /// CPU time in each period: nanoseconds, or quanta with [`SCHED_IN_QUANTA`]. 0 with [`SCHED_EXTRA`] alone.
        0x00 slice: u64,
        /// The period: nanoseconds, or quanta. Of somebody without a slice it is a second at most and means nothing.
        0x08 period: u64,
        /// Its part in time that nobody reserved: 1 to [`SCHED_LARGEST_WEIGHT`], usually [`SCHED_USUAL_WEIGHT`].
        0x10 weight: u32,
        /// [`SCHED_EXTRA`], [`SCHED_IN_QUANTA`].
        0x14 flags: u32,
    }
    /// Argument of `sched_rules`: what holds for all reservations of the machine. Only the version and `set`, and what
    /// `set` says, are read. To set is for the control domain.
    pub struct SchedRules: 80 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: [`SCHED_SET_QUANTUM`], or 0 to change nothing.
        0x04 set: u32,
        /// The quantum in nanoseconds, from `section` to a second: a turn in time that nobody reserved, and the unit of
        /// [`SCHED_IN_QUANTA`]. Reservations that were made stay as they are.
        0x08 quantum: u64,
        /// The longest section of the hypervisor that is not preempted, as admission charges it. Nanoseconds.
        0x10 section: u64,
        /// Nanoseconds.
        0x18 shortest_period: u64,
        /// Nanoseconds.
        0x20 longest_period: u64,
        /// The part of each CPU that nobody can reserve, in millionths.
        0x28 reserve_ppm: u32,
        /// CPUs that take vCPUs.
        0x2c nr_cpus: u32,
        /// Zero.
        0x30 _reserved: [u64; 4],
    }
    /// Argument of `sched_get`: what a vCPU has. Only the version, the domain and the vCPU are read.
    pub struct SchedGet: 112 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the domain; `DOMID_SELF` is the caller.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: the vCPU, or [`SCHED_ALL_VCPUS`]: then what the first one has is told.
        0x08 vcpu: u32,
        /// The CPU where it is admitted; [`SCHED_NO_CPU`] if all were asked for and are on several.
        0x0c cpu: u32,
        /// vCPUs that were asked for.
        0x10 nr_vcpus: u32,
        /// Those of them that have, and will have, what is told.
        0x14 nr_alike: u32,
        /// What is in force.
        0x18 terms: SchedTerms,
        /// What is granted and not in force yet; all zero if nothing is.
        0x30 coming: SchedTerms,
        /// When it will be, in system time, as far as is known: a period can be put off. 0 if nothing is coming.
        0x48 coming_at: u64,
        /// What the domain may reserve for itself: [`SchedAllow::rate`].
        0x50 allowed: u64,
        /// And [`SchedAllow::weight`].
        0x58 allowed_weight: u32,
        /// Padding.
        0x5c _pad1: u32,
        /// Periods begin whole periods from here, in system time, but for what sleep has put off.
        0x60 periods_from: u64,
        /// Zero.
        0x68 _reserved: u64,
    }
    /// Argument of `sched_set`: gives a vCPU, or each of a domain's, other terms, from its next period on. All get them,
    /// or none. Only the version, the domain, the vCPU and the terms are read; what is told is told with a refusal, too.
    /// A domain may ask for itself within what it is allowed ([`SchedAllow`]): then what its vCPUs have in force, what they
    /// were granted, and what is asked for come to no more than that, as admission charges it.
    pub struct SchedSet: 96 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the domain.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: the vCPU, or [`SCHED_ALL_VCPUS`].
        0x08 vcpu: u32,
        /// Out: `SCHED_GRANTED`, or why not: `SCHED_REFUSED_*`.
        0x0c refusal: u32,
        /// In: what is asked for.
        0x10 terms: SchedTerms,
        /// Out, with [`SCHED_REFUSED_NO_ROOM`]: the largest slice that would be granted now with this period, in the
        /// unit that was asked in; 0 if none would be.
        0x28 largest_slice: u64,
        /// Out, with it: the largest when what is being given up is free, in a little more than a second.
        0x30 largest_slice_soon: u64,
        /// Out, with it: the first vCPU that has no room.
        0x38 refused_vcpu: u32,
        /// Padding.
        0x3c _pad1: u32,
        /// Out: when the last of them has it, in system time, as far as is known. 0 if it has already.
        0x40 in_force_at: u64,
        /// Zero.
        0x48 _reserved: [u64; 3],
    }
    /// Argument of `sched_cpu`: what is reserved of a CPU. Only the version and the CPU are read. Parts of a CPU are
    /// nanoseconds of each second: what can be reserved rounded down, what is reserved rounded up.
    pub struct SchedCpu: 64 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the CPU.
        0x04 cpu: u32,
        /// [`SCHED_CPU_ONLINE`].
        0x08 flags: u32,
        /// vCPUs that are admitted there.
        0x0c nr_vcpus: u32,
        /// What can be reserved of it: a second, less the reserve.
        0x10 capacity: u64,
        /// What is: the charges (slice + section) / period, with those that were given up and are not free yet.
        0x18 charged: u64,
        /// Of those, what is not free yet.
        0x20 departing: u64,
        /// Zero.
        0x28 _reserved: [u64; 3],
    }
    /// Argument of `sched_allow`: what a domain may reserve for itself; nothing to begin with. What it has already stays.
    pub struct SchedAllow: 32 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the domain.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: the charges (slice + section) / period of all its vCPUs together, in nanoseconds of each second;
        /// [`SCHED_LARGEST_RATE`] at most.
        0x08 rate: u64,
        /// In: the largest weight of a vCPU with [`SCHED_EXTRA`]; 0 for none with it.
        0x10 weight: u32,
        /// In: zero.
        0x14 flags: u32,
        /// Zero.
        0x18 _reserved: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wire;

    #[test]
    fn the_version_comes_first_so_that_the_rest_may_grow() {
        for fields in [
            SchedRules::FIELDS,
            SchedGet::FIELDS,
            SchedSet::FIELDS,
            SchedCpu::FIELDS,
            SchedAllow::FIELDS,
        ] {
            assert_eq!((fields[0].name, fields[0].offset), ("version", 0));
        }
    }

    #[test]
    fn terms_lie_within_their_structures_as_they_do_alone() {
        let terms = SchedTerms {
            slice: 0x0102_0304_0506_0708,
            period: 0x1112_1314_1516_1718,
            weight: 0x2122_2324,
            flags: 0x3132_3334,
        };
        let mut alone = [0; SchedTerms::SIZE];
        terms.write_to(&mut alone);
        let mut set = [0; SchedSet::SIZE];
        SchedSet {
            terms,
            ..SchedSet::ZERO
        }
        .write_to(&mut set);
        assert_eq!(set[0x10..0x28], alone);
        let mut get = [0; SchedGet::SIZE];
        SchedGet {
            coming: terms,
            ..SchedGet::ZERO
        }
        .write_to(&mut get);
        assert_eq!(get[0x30..0x48], alone);
        assert_eq!(
            SchedGet::read_from(&get).map(|read| read.coming),
            Some(terms)
        );
    }

    #[test]
    fn each_refusal_has_a_number_of_its_own_and_none_is_a_grant() {
        let all = [
            SCHED_GRANTED,
            SCHED_REFUSED_PERIOD,
            SCHED_REFUSED_SLICE,
            SCHED_REFUSED_TOO_SHORT,
            SCHED_REFUSED_NEVER_RUNS,
            SCHED_REFUSED_WEIGHT,
            SCHED_REFUSED_OVERFLOW,
            SCHED_REFUSED_FLAGS,
            SCHED_REFUSED_NO_CPU,
            SCHED_REFUSED_NO_ROOM,
            SCHED_REFUSED_NOT_ALLOWED,
        ];
        assert!(
            all.iter()
                .enumerate()
                .all(|(at, number)| at as u32 == *number)
        );
    }
}
