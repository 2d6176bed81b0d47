//! What the machine advertises, what a vCPU may ask for, and what that costs: the arithmetic of T1.

/// What holds for all reservations of a machine. Times in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    ticks_per_second: u64,
    section: u64,
    quantum: u64,
    reserve_ppm: u32,
}

/// Why rules make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulesError {
    /// Fewer than a million ticks a second, or more than 10^12.
    Clock,
    /// B is zero, or so long that no period is left between 10 B and a second.
    Section,
    /// The quantum is shorter than B or longer than a second.
    Quantum,
    /// More than the whole CPU is kept back.
    Reserve,
}

impl Rules {
    /// A clock's rate, the longest section that cannot be preempted (B), the quantum that is advertised, which is
    /// also the turn of those who share left-over time, and the part of each CPU that is never reserved by
    /// anybody, in millionths: it is for what the hypervisor does for nobody.
    ///
    /// # Errors
    /// See [`RulesError`]; nothing is rounded to fit.
    pub const fn new(
        ticks_per_second: u64,
        section: u64,
        quantum: u64,
        reserve_ppm: u32,
    ) -> Result<Self, RulesError> {
        if ticks_per_second < 1_000_000 || ticks_per_second > 1_000_000_000_000 {
            return Err(RulesError::Clock);
        }
        if section == 0 || section > ticks_per_second / 10 {
            return Err(RulesError::Section);
        }
        if quantum < section || quantum > ticks_per_second {
            return Err(RulesError::Quantum);
        }
        if reserve_ppm > 1_000_000 {
            return Err(RulesError::Reserve);
        }
        Ok(Self {
            ticks_per_second,
            section,
            quantum,
            reserve_ppm,
        })
    }

    /// The same with another quantum.
    ///
    /// # Errors
    /// [`RulesError::Quantum`].
    pub const fn with_quantum(&self, quantum: u64) -> Result<Self, RulesError> {
        Self::new(
            self.ticks_per_second,
            self.section,
            quantum,
            self.reserve_ppm,
        )
    }

    /// The part of each CPU that nobody can reserve, in millionths.
    #[must_use]
    pub const fn reserve_ppm(&self) -> u32 {
        self.reserve_ppm
    }

    /// B: the longest section that cannot be preempted.
    #[must_use]
    pub const fn section(&self) -> u64 {
        self.section
    }

    /// The quantum: the unit of [`Terms::of_quanta`], and a turn in left-over time.
    #[must_use]
    pub const fn quantum(&self) -> u64 {
        self.quantum
    }

    /// The shortest turn in left-over time: one that is cut because somebody with less virtual time wakes. Long against a
    /// switch, short for who is waited for.
    #[must_use]
    pub const fn shortest_turn(&self) -> u64 {
        let part = self.quantum / 8;
        if part < self.section {
            self.section
        } else {
            part
        }
    }

    /// The shortest period: 10 B, so that overruns are a tenth of a period at most.
    #[must_use]
    pub const fn shortest_period(&self) -> u64 {
        // Cannot overflow: B is at most a tenth of a second.
        self.section * 10
    }

    /// The longest period: a second.
    #[must_use]
    pub const fn longest_period(&self) -> u64 {
        self.ticks_per_second
    }

    /// What can be reserved of a CPU.
    #[must_use]
    pub const fn capacity(&self) -> Charge {
        let reserve = (Charge::WHOLE.0 as u128 * self.reserve_ppm as u128).div_ceil(1_000_000);
        // The reserve is at most the whole.
        Charge(Charge::WHOLE.0 - reserve as u64)
    }
}

/// Whether a vCPU takes part in time that nobody reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// No: its slice is also its most.
    Never,
    /// Yes, in proportion to its weight.
    ByWeight,
}

/// What a vCPU was promised. Made by [`Terms::new`] only, so that what is here was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    slice: u64,
    period: u64,
    extra: Extra,
    weight: u16,
}

/// Why terms cannot be had on any CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermsError {
    /// The period is shorter than 10 B or longer than a second.
    Period,
    /// The slice is longer than the period.
    SliceExceedsPeriod,
    /// The slice is shorter than B, which no timer could honour. Zero is allowed with `extra`.
    SliceTooShort,
    /// No slice and no extra time: it would never run.
    NeverRuns,
    /// A weight of zero.
    Weight,
    /// Quanta or their period do not fit the clock.
    Overflow,
}

impl Terms {
    /// The weight of those who ask for none in particular.
    pub const USUAL_WEIGHT: u16 = 256;

    /// Checks what is asked for. Slice and period in ticks.
    ///
    /// # Errors
    /// See [`TermsError`].
    pub const fn new(
        rules: &Rules,
        slice: u64,
        period: u64,
        extra: Extra,
        weight: u16,
    ) -> Result<Self, TermsError> {
        if period < rules.shortest_period() || period > rules.longest_period() {
            return Err(TermsError::Period);
        }
        if slice > period {
            return Err(TermsError::SliceExceedsPeriod);
        }
        if slice == 0 && matches!(extra, Extra::Never) {
            return Err(TermsError::NeverRuns);
        }
        if slice != 0 && slice < rules.section {
            return Err(TermsError::SliceTooShort);
        }
        if weight == 0 {
            return Err(TermsError::Weight);
        }
        Ok(Self {
            slice,
            period,
            extra,
            weight,
        })
    }

    /// Nothing promised; left-over time by weight.
    ///
    /// # Errors
    /// [`TermsError::Weight`].
    pub const fn best_effort(rules: &Rules, weight: u16) -> Result<Self, TermsError> {
        Self::new(rules, 0, rules.longest_period(), Extra::ByWeight, weight)
    }

    /// So many of the advertised quanta in every period of so many quanta, and no more.
    ///
    /// # Errors
    /// See [`TermsError`].
    pub const fn of_quanta(rules: &Rules, quanta: u64, period: u64) -> Result<Self, TermsError> {
        let (Some(slice), Some(period)) = (
            quanta.checked_mul(rules.quantum),
            period.checked_mul(rules.quantum),
        ) else {
            return Err(TermsError::Overflow);
        };
        Self::new(rules, slice, period, Extra::Never, Self::USUAL_WEIGHT)
    }

    /// These, or with a slice so short that so many with them are charged no more than `limit` in all. What leaves no slice
    /// is best effort for who takes part in left-over time; others keep the shortest there is.
    #[must_use]
    pub const fn within(&self, rules: &Rules, number: u32, limit: Charge) -> Self {
        let each = Charge(limit.0 / if number == 0 { 1 } else { number as u64 });
        let most = each.largest_slice(rules, self.period);
        let slice = if self.slice <= most { self.slice } else { most };
        let slice = match self.extra {
            Extra::Never if slice == 0 => rules.section,
            _ => slice,
        };
        Self { slice, ..*self }
    }

    /// These with another slice.
    ///
    /// # Errors
    /// See [`TermsError`].
    pub const fn with_slice(&self, rules: &Rules, slice: u64) -> Result<Self, TermsError> {
        Self::new(rules, slice, self.period, self.extra, self.weight)
    }

    /// These with another weight: what is promised is the same.
    ///
    /// # Errors
    /// [`TermsError::Weight`] for none.
    pub const fn with_weight(&self, weight: u16) -> Result<Self, TermsError> {
        match weight {
            0 => Err(TermsError::Weight),
            weight => Ok(Self { weight, ..*self }),
        }
    }

    /// CPU time promised in each period.
    #[must_use]
    pub const fn slice(&self) -> u64 {
        self.slice
    }

    /// The period.
    #[must_use]
    pub const fn period(&self) -> u64 {
        self.period
    }

    /// Whether it may have more.
    #[must_use]
    pub const fn extra(&self) -> Extra {
        self.extra
    }

    /// Its part in left-over time.
    #[must_use]
    pub const fn weight(&self) -> u16 {
        self.weight
    }

    /// What a tick of left-over time adds to its virtual time. Within 6 / 10^8 of its weight's inverse, whatever the
    /// pieces in which time is charged.
    pub(crate) const fn stride(&self) -> u64 {
        (1 << 40) / self.weight as u64
    }

    /// What promising this takes of a CPU: (slice + B) / period, or nothing if nothing is promised.
    #[must_use]
    pub const fn charge(&self, rules: &Rules) -> Charge {
        if self.slice == 0 {
            return Charge::NOTHING;
        }
        // Both are at most 10^12 (a second of the fastest clock), less than 2^40: the shift stays below 2^89. The
        // quotient is at most 1.1 in the unit, as slice <= period and B <= period / 10.
        let numerator = ((self.slice + rules.section) as u128) << Charge::BITS;
        Charge(numerator.div_ceil(self.period as u128) as u64)
    }
}

/// A part of a CPU, in units of 2^-48. Charges are rounded up and what they are taken from is rounded down, so that
/// what fits in the sum of charges fits exactly; taking one back takes back what was charged, to the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Charge(pub(crate) u64);

impl Charge {
    const BITS: u32 = 48;
    /// No part.
    pub const NOTHING: Self = Self(0);
    /// All of a CPU.
    pub const WHOLE: Self = Self(1 << Self::BITS);

    /// In millionths of a CPU, rounded down: for people to read.
    #[must_use]
    pub const fn ppm(self) -> u64 {
        ((self.0 as u128 * 1_000_000) >> Self::BITS) as u64
    }

    /// So many millionths of a CPU, rounded down; all of it at most.
    #[must_use]
    pub const fn of_ppm(ppm: u32) -> Self {
        let ppm = if ppm > 1_000_000 { 1_000_000 } else { ppm };
        Self(Self::WHOLE.0 / 1_000_000 * ppm as u64)
    }

    /// The lesser of both.
    #[must_use]
    pub const fn at_most(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }

    /// The greater of both.
    #[must_use]
    pub const fn at_least(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }

    /// So many ticks of each `of`, rounded down.
    #[must_use]
    pub const fn of_ticks(ticks: u64, of: u64) -> Self {
        let of = if of == 0 { 1 } else { of };
        let parts = ((ticks as u128) << Self::BITS) / of as u128;
        if parts > u64::MAX as u128 {
            Self(u64::MAX)
        } else {
            Self(parts as u64)
        }
    }

    /// As a part of a time, rounded down.
    #[must_use]
    pub const fn of(self, ticks: u64) -> u64 {
        // At most 2^64 of 2^48 parts each: what is too large for the type is more than a CPU, which none is charged.
        let product = (self.0 as u128 * ticks as u128) >> Self::BITS;
        if product > u64::MAX as u128 {
            u64::MAX
        } else {
            product as u64
        }
    }

    /// As a part of a time, rounded up.
    #[must_use]
    pub const fn of_rounded_up(self, ticks: u64) -> u64 {
        let product = (self.0 as u128 * ticks as u128).div_ceil(1 << Self::BITS);
        if product > u64::MAX as u128 {
            u64::MAX
        } else {
            product as u64
        }
    }

    /// What is left of this when another is taken away; nothing if it is more.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Both. Saturates, and then fits nowhere.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The largest slice in periods of `period` ticks whose charge is at most this; 0 if none is.
    #[must_use]
    pub const fn largest_slice(self, rules: &Rules, period: u64) -> u64 {
        let with_section = (self.0 as u128 * period as u128) >> Self::BITS;
        // ceil(x 2^48 / period) <= self exactly when x <= self period / 2^48: no slice is given away by rounding.
        let slice = with_section.saturating_sub(rules.section as u128);
        let slice = if slice > period as u128 {
            period
        } else {
            slice as u64
        };
        if slice < rules.section { 0 } else { slice }
    }
}
