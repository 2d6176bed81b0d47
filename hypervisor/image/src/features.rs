//! Features by name, as kernels list them: separated by `|`, those they cannot do without behind a `!`.

use core::fmt;
use guest_abi::features::Feature;

/// What no paravirtualized guest gets here, nor from Xen: a kernel that needs it would only fail
/// later. (Writable page tables are not offered either, but today's Linux calls them needed and does without.)
const NEVER: [Feature; 2] = [
    Feature::AutoTranslatedPhysmap,
    Feature::SupervisorModeKernel,
];

/// A feature's name as a kernel wrote it, cut to what is worth showing; what is not plain text is shown as `?`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FeatureName {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl FeatureName {
    const LONGEST: usize = 40;

    /// The name, cut.
    pub fn new(name: &str) -> Self {
        let mut bytes = [b'?'; Self::LONGEST];
        let len = name.len().min(Self::LONGEST);
        for (to, from) in bytes.iter_mut().zip(name.bytes()) {
            if matches!(from, b'!'..=b'~') {
                *to = from;
            }
        }
        FeatureName { bytes, len }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for FeatureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for FeatureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The feature of this name.
fn by_name(name: &str) -> Option<Feature> {
    Feature::ALL
        .iter()
        .copied()
        .find(|feature| feature.name() == name)
}

/// Reads a list: the features that are known, one bit each, and the first needed one that cannot be had. What is
/// merely supported and not known is passed over.
pub(crate) fn parse_features(list: &str) -> (u32, Option<FeatureName>) {
    let (mut features, mut missing) = (0, None);
    for word in list.split('|').filter(|word| !word.is_empty()) {
        let (name, is_needed) = match word.strip_prefix('!') {
            Some(name) => (name, true),
            None => (word, false),
        };
        let known = by_name(name);
        features |= known.map_or(0, Feature::mask);
        if is_needed && known.is_none_or(|feature| NEVER.contains(&feature)) {
            missing = missing.or(Some(FeatureName::new(name)));
        }
    }
    (features, missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn known_names_are_bits_and_unknown_ones_are_missing_only_if_needed() {
        let missing = |list| parse_features(list).1.map(|name| name.to_string());
        assert_eq!(parse_features(""), (0, None));
        assert_eq!(
            parse_features("!writable_page_tables|pae_pgdir_above_4gb"),
            (0x11, None)
        );
        assert_eq!(parse_features("dom0|brand_new"), (0x800, None));
        assert_eq!(missing("dom0|!brand_new|!newer"), Some("brand_new".into()));
        assert_eq!(
            missing("!supervisor_mode_kernel"),
            Some("supervisor_mode_kernel".into())
        );
        assert_eq!(missing("auto_translated_physmap"), None);
        assert_eq!(missing("!|!x"), Some("".into()));
        assert_eq!(missing("!a b\u{e9}"), Some("a?b??".into()));
        assert_eq!(
            missing(&("!".to_string() + &"x".repeat(99))).map(|n| n.len()),
            Some(40)
        );
    }
}
