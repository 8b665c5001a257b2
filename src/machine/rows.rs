//! An ordered collection of rows that is cheap to copy and knows what changed in the copy.
//!
//! # Contract
//! `clone` shares the settled rows; changes go to an overlay, which names exactly the rows that a
//! step has to write. [`Rows::settle`] folds the overlay in once the step is taken; it copies nothing
//! when no other copy is alive.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

#[derive(Debug, Clone)]
pub struct Rows<K, V> {
    settled: Arc<BTreeMap<K, Arc<V>>>,
    /// `None`: the row is removed.
    changed: BTreeMap<K, Option<Arc<V>>>,
    len: usize,
}

impl<K: Ord + Clone, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { settled: Arc::default(), changed: BTreeMap::new(), len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> Rows<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        match self.changed.get(key) {
            Some(changed) => changed.as_deref(),
            None => self.settled.get(key).map(|row| &**row),
        }
    }

    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn put(&mut self, key: K, row: V) {
        if !self.contains(&key) {
            self.len += 1;
        }
        self.changed.insert(key, Some(Arc::new(row)));
    }

    /// The row, to be changed in place; `None` when there is no such row.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if !self.changed.contains_key(key) {
            let row = self.settled.get(key)?.clone();
            self.changed.insert(key.clone(), Some(row));
        }
        self.changed.get_mut(key)?.as_mut().map(Arc::make_mut)
    }

    pub fn remove(&mut self, key: &K) -> Option<Arc<V>> {
        let removed = match self.changed.get(key) {
            Some(changed) => changed.clone(),
            None => self.settled.get(key).cloned(),
        }?;
        self.len -= 1;
        self.changed.insert(key.clone(), None);
        Some(removed)
    }

    /// All rows in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        Merge { settled: self.settled.iter().peekable(), changed: self.changed.iter().peekable() }
    }

    /// Rows that differ from the settled ones: key, row before, row now.
    pub fn changes(&self) -> impl Iterator<Item = (&K, Option<&V>, Option<&V>)> {
        self.changed.iter().filter_map(|(key, now)| {
            let before = self.settled.get(key).map(|row| &**row);
            (before.is_some() || now.is_some()).then_some((key, before, now.as_deref()))
        })
    }

    /// [`changes`](Self::changes) as they are to be written; the rows are shared.
    pub fn writes(&self) -> impl Iterator<Item = (&K, Option<Arc<V>>)> {
        let stored = |key: &K| self.settled.contains_key(key);
        let changed = self.changed.iter().filter(move |(key, now)| now.is_some() || stored(key));
        changed.map(|(key, now)| (key, now.clone()))
    }

    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Makes the changes part of the settled rows.
    pub fn settle(&mut self) {
        if self.changed.is_empty() {
            return;
        }
        let settled = Arc::make_mut(&mut self.settled);
        for (key, row) in core::mem::take(&mut self.changed) {
            match row {
                Some(row) => settled.insert(key, row),
                None => settled.remove(&key),
            };
        }
    }

    /// Adds a row that is stored already.
    pub fn load(&mut self, key: K, row: impl Into<Arc<V>>) {
        if Arc::make_mut(&mut self.settled).insert(key, row.into()).is_none() {
            self.len += 1;
        }
    }
}

/// A value that copies share until one of them changes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    pub fn share(&self) -> Arc<T> {
        Arc::clone(&self.0)
    }
}

impl<T> From<Arc<T>> for Shared<T> {
    fn from(value: Arc<T>) -> Self {
        Self(value)
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> core::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> core::ops::DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

struct Merge<'a, K, V> {
    settled: core::iter::Peekable<alloc::collections::btree_map::Iter<'a, K, Arc<V>>>,
    changed: core::iter::Peekable<alloc::collections::btree_map::Iter<'a, K, Option<Arc<V>>>>,
}

impl<'a, K: Ord, V> Iterator for Merge<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let take_changed = match (self.settled.peek(), self.changed.peek()) {
                (None, None) => return None,
                (Some(_), None) => false,
                (None, Some(_)) => true,
                (Some((settled, _)), Some((changed, _))) => match settled.cmp(changed) {
                    core::cmp::Ordering::Less => false,
                    core::cmp::Ordering::Greater => true,
                    core::cmp::Ordering::Equal => {
                        self.settled.next();
                        true
                    }
                },
            };
            if !take_changed {
                return self.settled.next().map(|(key, row)| (key, &**row));
            }
            if let Some((key, Some(row))) = self.changed.next() {
                return Some((key, row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rows;
    use alloc::vec::Vec;

    #[test]
    fn a_copy_shows_its_changes_and_the_original_does_not() {
        let mut rows = Rows::default();
        for id in 1..=4 {
            rows.load(id, id * 10);
        }
        let mut copy = rows.clone();
        copy.remove(&2);
        copy.put(5, 50);
        *copy.get_mut(&3).expect("row 3 was loaded") = 31;
        assert_eq!(copy.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>(), [(1, 10), (3, 31), (4, 40), (5, 50)]);
        assert_eq!(copy.len(), 4);
        assert_eq!(rows.iter().count(), 4);
        assert_eq!(rows.get(&3), Some(&30));
        let changes: Vec<_> = copy.changes().map(|(k, b, n)| (*k, b.copied(), n.copied())).collect();
        assert_eq!(changes, [(2, Some(20), None), (3, Some(30), Some(31)), (5, None, Some(50))]);
        copy.settle();
        assert!(!copy.is_changed());
        assert_eq!(copy.get(&2), None);
        assert_eq!(rows.get(&2), Some(&20));
    }

    #[test]
    fn a_row_added_and_removed_in_one_copy_is_no_change() {
        let mut rows: Rows<i64, i64> = Rows::default();
        rows.put(1, 1);
        rows.remove(&1);
        assert_eq!(rows.changes().count(), 0);
        assert!(rows.is_empty());
    }
}
