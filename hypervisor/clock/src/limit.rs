//! At most so often in a while: for things that may be tried again, but not for ever.

/// Says yes at most `N` times within any window of a given length.
#[derive(Clone, Copy, Debug)]
pub struct AtMost<const N: usize> {
    window_ns: u64,
    /// When the last ones were, oldest first; those never used are `None`.
    last: [Option<u64>; N],
}

impl<const N: usize> AtMost<N> {
    /// Nothing has happened yet.
    #[must_use]
    pub const fn within(window_ns: u64) -> Self {
        AtMost {
            window_ns,
            last: [None; N],
        }
    }

    /// Whether it may happen now; if so, it has. A clock that went backwards counts as one that stands.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let recent = |then: &Option<u64>| {
            then.is_some_and(|then| now_ns.saturating_sub(then) < self.window_ns)
        };
        match self.last.first() {
            None => return false,
            // The oldest of the last N is that recent: so are all of them.
            Some(oldest) if recent(oldest) => return false,
            Some(_) => {}
        }
        self.last.rotate_left(1);
        if let Some(newest) = self.last.last_mut() {
            *newest = Some(now_ns);
        }
        true
    }
}
