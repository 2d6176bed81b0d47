//! An ordered map from names to values of which copies are free: what makes a snapshot of the tree cost nothing.
//!
//! A balanced (AVL) search tree of shared links. A change copies the links on its way down that somebody else
//! still sees, and changes the others in place; so every operation costs O(log n), snapshots or none.
//!
//! # Invariants
//! - M1: keys ascend from left to right, and the heights of a link's two sides differ by at most one.
//! - M2: a change to one map is never seen through a clone of it.

use std::cmp::Ordering;
use std::sync::Arc;

type Side<V> = Option<Arc<Link<V>>>;

#[derive(Clone, Debug)]
struct Link<V> {
    height: u8,
    key: Arc<str>,
    value: V,
    left: Side<V>,
    right: Side<V>,
}

/// The map. Cloning it is O(1).
#[derive(Clone, Debug)]
pub struct Map<V> {
    root: Side<V>,
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V: Clone> Map<V> {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&V> {
        let mut side = &self.root;
        while let Some(link) = side {
            side = match key.cmp(&link.key) {
                Ordering::Less => &link.left,
                Ordering::Greater => &link.right,
                Ordering::Equal => return Some(&link.value),
            };
        }
        None
    }

    /// The value of `key`, to be changed. Copies the shared links on the way even if there is no such name.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        let mut side = &mut self.root;
        loop {
            let link = Arc::make_mut(side.as_mut()?);
            match key.cmp(&link.key) {
                Ordering::Less => side = &mut link.left,
                Ordering::Greater => side = &mut link.right,
                Ordering::Equal => return Some(&mut link.value),
            }
        }
    }

    /// Puts `value` under `key`; what was there is given back.
    pub fn insert(&mut self, key: &str, value: V) -> Option<V> {
        insert(&mut self.root, key, value)
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        // Looked up first, so that a name that is not there copies nothing.
        self.get(key)?;
        remove(&mut self.root, key)
    }

    /// All names and values, ascending.
    pub fn iter(&self) -> Iter<'_, V> {
        let mut iter = Iter { above: Vec::new() };
        iter.descend(&self.root);
        iter
    }

    /// Takes the values out of links that nobody else sees, and forgets the others.
    pub fn into_unshared_values(self, mut take: impl FnMut(V)) {
        let mut links = vec![self.root];
        while let Some(side) = links.pop() {
            if let Some(link) = side.and_then(Arc::into_inner) {
                links.push(link.left);
                links.push(link.right);
                take(link.value);
            }
        }
    }
}

/// Names and values in ascending order.
#[derive(Debug)]
pub struct Iter<'a, V> {
    above: Vec<&'a Link<V>>,
}

impl<'a, V> Iter<'a, V> {
    fn descend(&mut self, mut side: &'a Side<V>) {
        while let Some(link) = side {
            self.above.push(link);
            side = &link.left;
        }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a Arc<str>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let link = self.above.pop()?;
        self.descend(&link.right);
        Some((&link.key, &link.value))
    }
}

fn height<V>(side: &Side<V>) -> u8 {
    side.as_ref().map_or(0, |link| link.height)
}

fn measure<V>(link: &mut Link<V>) {
    link.height = 1 + height(&link.left).max(height(&link.right));
}

// The recursions below go as deep as the tree is high: 1.44 log2 of the number of names.

fn insert<V: Clone>(side: &mut Side<V>, key: &str, value: V) -> Option<V> {
    let Some(link) = side else {
        *side = Some(Arc::new(Link {
            height: 1,
            key: Arc::from(key),
            value,
            left: None,
            right: None,
        }));
        return None;
    };
    let link = Arc::make_mut(link);
    let old = match key.cmp(&link.key) {
        Ordering::Less => insert(&mut link.left, key, value),
        Ordering::Greater => insert(&mut link.right, key, value),
        Ordering::Equal => return Some(std::mem::replace(&mut link.value, value)),
    };
    balance(side);
    old
}

fn remove<V: Clone>(side: &mut Side<V>, key: &str) -> Option<V> {
    let link = Arc::make_mut(side.as_mut()?);
    let old = match key.cmp(&link.key) {
        Ordering::Less => remove(&mut link.left, key),
        Ordering::Greater => remove(&mut link.right, key),
        Ordering::Equal => {
            let (left, mut right) = (link.left.take(), link.right.take());
            let old = link.value.clone();
            *side = match (left, take_first(&mut right)) {
                (left, None) => left,
                (left, Some((key, value))) => Some(Arc::new(Link {
                    height: 0,
                    key,
                    value,
                    left,
                    right,
                })),
            };
            Some(old)
        }
    };
    balance(side);
    old
}

/// Takes the lowest name out.
fn take_first<V: Clone>(side: &mut Side<V>) -> Option<(Arc<str>, V)> {
    let link = Arc::make_mut(side.as_mut()?);
    if let Some(first) = take_first(&mut link.left) {
        balance(side);
        return Some(first);
    }
    let first = (Arc::clone(&link.key), link.value.clone());
    let right = link.right.take();
    *side = right;
    Some(first)
}

/// Makes M1 hold for this link, whose sides hold it and differ in height by at most two.
fn balance<V: Clone>(side: &mut Side<V>) {
    let Some(shared) = side else { return };
    let link = Arc::make_mut(shared);
    let (left, right) = (height(&link.left), height(&link.right));
    if left > right + 1 {
        if link
            .left
            .as_ref()
            .is_some_and(|low| height(&low.right) > height(&low.left))
        {
            rotate_left(&mut link.left);
        }
        rotate_right(side);
    } else if right > left + 1 {
        if link
            .right
            .as_ref()
            .is_some_and(|high| height(&high.left) > height(&high.right))
        {
            rotate_right(&mut link.right);
        }
        rotate_left(side);
    } else {
        measure(link);
    }
}

fn rotate_left<V: Clone>(side: &mut Side<V>) {
    let Some(mut low) = side.take() else { return };
    let Some(mut high) = Arc::make_mut(&mut low).right.take() else {
        *side = Some(low);
        return;
    };
    let top = Arc::make_mut(&mut high);
    let lowered = Arc::make_mut(&mut low);
    lowered.right = top.left.take();
    measure(lowered);
    top.left = Some(low);
    measure(top);
    *side = Some(high);
}

fn rotate_right<V: Clone>(side: &mut Side<V>) {
    let Some(mut high) = side.take() else { return };
    let Some(mut low) = Arc::make_mut(&mut high).left.take() else {
        *side = Some(high);
        return;
    };
    let top = Arc::make_mut(&mut low);
    let lowered = Arc::make_mut(&mut high);
    lowered.left = top.right.take();
    measure(lowered);
    top.right = Some(high);
    measure(top);
    *side = Some(low);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check<V>(side: &Side<V>) -> u8 {
        let Some(link) = side else { return 0 };
        let (left, right) = (check(&link.left), check(&link.right));
        assert!(left.abs_diff(right) <= 1, "M1");
        assert_eq!(link.height, 1 + left.max(right), "M1");
        link.height
    }

    fn contents(map: &Map<u32>) -> Vec<(String, u32)> {
        map.iter()
            .map(|(key, value)| (key.to_string(), *value))
            .collect()
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_clones_never_change(
            steps in proptest::collection::vec((0u8..4, 0u32..40, any::<u32>()), 0..300),
        ) {
            let mut map = Map::default();
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for (action, key, value) in steps {
                let key = format!("{key:02}");
                match action {
                    0 | 1 => assert_eq!(map.insert(&key, value), model.insert(key, value)),
                    2 => assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => {
                        kept.push((map.clone(), contents(&map)));
                        if let Some(place) = map.get_mut(&key) {
                            *place = value;
                            model.insert(key, value);
                        }
                    }
                }
                check(&map.root);
                let expected: Vec<_> = model.iter().map(|(key, value)| (key.clone(), *value)).collect();
                prop_assert_eq!(contents(&map), expected);
            }
            for (clone, then) in &kept {
                prop_assert_eq!(&contents(clone), then);
            }
        }
    }
}
