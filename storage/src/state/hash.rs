//! A hash over rows, by which replicas are compared.

use std::ops::ControlFlow;

use xxhash_rust::xxh3::Xxh3Default;

use super::error::Result;
use super::range::KeyRange;
use super::store::{Direction, Read};

/// Hash of all rows of a range, the same whatever kind of store holds them. Reads every row: use a view,
/// off the paths that anybody waits for.
pub fn state_hash(rows: &dyn Read, range: &KeyRange) -> Result<u64> {
    let mut hash = Xxh3Default::new();
    rows.scan(range, Direction::Forward, &mut |key, value| {
        // With the lengths in it, no two sequences of rows feed the same bytes.
        hash.update(&(key.len() as u64).to_le_bytes());
        hash.update(key);
        hash.update(&(value.len() as u64).to_le_bytes());
        hash.update(value);
        ControlFlow::Continue(())
    })?;
    Ok(hash.digest())
}
