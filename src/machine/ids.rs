//! Ids: made from the random bits that come in with an input, and recognised.

use alloc::format;
use alloc::string::String;

use crate::stamp::UnixNanos;

/// The `n`-th uuid (version 4) of an input with this seed.
pub fn uuid(seed: u128, n: u64) -> String {
    let (high, low) = bits(seed, n);
    written(high & !0xf000 | 0x4000, low)
}

/// The `n`-th uuid of an input with this seed, as run ids are: version 7, which begins with the time.
pub fn run_id(now: UnixNanos, seed: u128, n: u64) -> String {
    const NANOS_PER_MS: i64 = 1_000_000;
    const MS_BITS: u64 = (1 << 48) - 1;
    let (high, low) = bits(seed, n);
    let ms = u64::try_from(now / NANOS_PER_MS).unwrap_or(0) & MS_BITS;
    written(ms << 16 | 0x7000 | high & 0xfff, low)
}

/// The `n`-th number of an input with this seed, below `end`; 0 when that is no positive number.
pub fn random_below(seed: u128, n: u64, end: i64) -> i64 {
    let (high, _) = bits(seed, n);
    i64::try_from(high >> 1).unwrap_or(0).checked_rem(end.max(1)).unwrap_or(0)
}

fn bits(seed: u128, n: u64) -> (u64, u64) {
    let high = mix((seed >> 64) as u64 ^ mix(n));
    let low = mix(seed as u64 ^ mix(n.wrapping_add(1 << 32)) ^ high.rotate_left(31));
    (high, low)
}

fn written(high: u64, low: u64) -> String {
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// The request id of what an event of a run sets off elsewhere: the same whenever it is repeated.
pub(crate) fn derived(run_id: &str, event_id: i64) -> String {
    const VERSION: i64 = 0;
    format!("{run_id}:{event_id}:{VERSION}")
}

/// Whether the text is a uuid: hexadecimal digits in groups of 8, 4, 4, 4 and 12, or all in one.
pub fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.len() {
        36 => bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        }),
        32 => bytes.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// A bijection that spreads every bit of the input over the output (splitmix64's finaliser).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_input_differ_and_are_version_4() {
        let ids: alloc::collections::BTreeSet<String> = (1..=1000).map(|n| uuid(7, n)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| is_uuid(id) && id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19])));
        assert_ne!(uuid(7, 1), uuid(8, 1));
    }

    #[test]
    fn run_ids_are_version_7_and_begin_with_the_time() {
        const MS: i64 = 1_000_000;
        let ids: alloc::collections::BTreeSet<String> =
            (1..=1000).map(|n| run_id(0x0123_4567_89ab * MS, 7, n)).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| is_uuid(id) && id.starts_with("01234567-89ab-7")));
        assert!(ids.iter().all(|id| b"89ab".contains(&id.as_bytes()[19])));
        assert!(run_id(1_700_000_000_000 * MS, 1, 1) < run_id(1_700_000_000_001 * MS, 9, 9));
    }

    #[test]
    fn other_texts_are_no_uuids() {
        assert!(is_uuid("0a1b2c3d-0000-4000-8000-00000000abcd"));
        assert!(!is_uuid("0a1b2c3d-0000-4000-8000-00000000abc"));
        assert!(!is_uuid("0a1b2c3d_0000_4000_8000_00000000abcd"));
        assert!(!is_uuid(""));
    }
}
