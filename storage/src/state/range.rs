//! A range of keys.

use bytes::Bytes;

/// Keys from `start` up to and without `end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Bytes,
}

impl KeyRange {
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// All keys that begin with these bytes, of which one at least must not be 0xFF.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = after_prefix(&start);
        Self { start, end }
    }

    /// This key alone.
    pub fn one(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let end = Bytes::from([&start[..], &[0]].concat());
        Self { start, end }
    }

    /// Every key that the registry can build.
    pub fn all() -> Self {
        Self { start: Bytes::from_static(&[0]), end: Bytes::from_static(&[0xFF, 0xFF, 0xFF]) }
    }

    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        &self.start[..] <= key && key < &self.end[..]
    }

    /// The keys that both have.
    pub fn within(&self, other: &Self) -> Self {
        let start = (&self.start).max(&other.start).clone();
        let end = (&self.end).min(&other.end).max(&start).clone();
        Self { start, end }
    }

    /// Whether every key of the other range is a key of this one.
    pub fn covers(&self, other: &Self) -> bool {
        other.is_empty() || (self.start <= other.start && other.end <= self.end)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }
}

/// The smallest key beyond all that begin with `prefix`.
fn after_prefix(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|byte| *byte != 0xFF) else {
        return KeyRange::all().end;
    };
    let mut end = prefix.get(..=last).unwrap_or_default().to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Bytes::from(end)
}

#[cfg(test)]
mod tests {
    use super::KeyRange;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(KeyRange::prefix(&b"ab"[..]), KeyRange::new(&b"ab"[..], &b"ac"[..]));
        assert_eq!(KeyRange::prefix(&[1, 0xFF, 0xFF][..]).end, [2][..]);
        assert!(KeyRange::prefix(&b"ab"[..]).contains(b"ab\xff\xff\xff"));
        assert!(!KeyRange::prefix(&b"ab"[..]).contains(b"ac"));
        assert!(KeyRange::prefix(&[0xFF, 0xFF][..]).contains(&[0xFF, 0xFF, 0xFE, 1]));
    }

    #[test]
    fn one_key_is_a_range_that_holds_nothing_else() {
        let one = KeyRange::one(&b"k"[..]);
        assert!(one.contains(b"k"));
        assert!(!one.contains(b"k\0"));
        assert!(!one.contains(b"j\xff"));
    }

    #[test]
    fn ranges_that_only_touch_do_not_overlap() {
        let (low, high) = (KeyRange::new(&b"a"[..], &b"b"[..]), KeyRange::new(&b"b"[..], &b"c"[..]));
        assert!(!low.overlaps(&high));
        assert!(low.overlaps(&KeyRange::new(&b"aa"[..], &b"z"[..])));
        assert!(!low.overlaps(&KeyRange::new(&b"a"[..], &b"a"[..])));
        assert!(KeyRange::all().covers(&low) && !low.covers(&KeyRange::all()));
    }
}
