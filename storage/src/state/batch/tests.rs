//! Properties of the batch encoding: round trip, joining, and bytes that are no batch.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Made {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    SingleDelete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, i64),
}

fn made() -> impl Strategy<Value = Made> {
    let key = || prop::collection::vec(any::<u8>(), 1..200);
    prop_oneof![
        (key(), prop::collection::vec(any::<u8>(), 0..400)).prop_map(|(key, value)| Made::Put(key, value)),
        key().prop_map(Made::Delete),
        key().prop_map(Made::SingleDelete),
        (key(), any::<i64>()).prop_map(|(key, amount)| Made::Add(key, amount)),
        (key(), key())
            .prop_filter("a range has an end", |(a, b)| a != b)
            .prop_map(|(a, b)| Made::DeleteRange(a.clone().min(b.clone()), a.max(b))),
    ]
}

fn build(ops: &[Made]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for op in ops {
        match op {
            Made::Put(key, value) => batch.put(key, value),
            Made::Delete(key) => batch.delete(key),
            Made::SingleDelete(key) => batch.single_delete(key),
            Made::Add(key, amount) => batch.add(key, *amount),
            Made::DeleteRange(start, end) => batch.delete_range(&KeyRange::new(start.clone(), end.clone())),
        }
    }
    batch
}

fn op(made: &Made) -> Op<'_> {
    match made {
        Made::Put(key, value) => Op::Put { key, value },
        Made::Delete(key) => Op::Delete { key },
        Made::SingleDelete(key) => Op::SingleDelete { key },
        Made::Add(key, amount) => Op::Add { key, amount: *amount },
        Made::DeleteRange(start, end) => Op::DeleteRange { start, end },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_batch_reads_back(ops in prop::collection::vec(made(), 0..12)) {
        let batch = build(&ops).finish().expect("it is well-formed");
        prop_assert_eq!(batch.len(), ops.len());
        prop_assert!(batch.iter().eq(ops.iter().map(op)));
        prop_assert_eq!(&Batch::decode(batch.bytes().clone()), &Ok(batch.clone()));
        for op in &batch {
            if let Op::Put { key, value } = op {
                prop_assert_eq!((&batch.share(key)[..], &batch.share(value)[..]), (key, value));
            }
        }
    }

    #[test]
    fn joined_batches_are_a_batch(a in prop::collection::vec(made(), 0..6), b in prop::collection::vec(made(), 0..6)) {
        let mut joined = build(&a);
        joined.append(&build(&b).finish().expect("it is well-formed"));
        let joined = joined.finish().expect("it is well-formed");
        prop_assert_eq!(&joined, &build(&[a, b].concat()).finish().expect("it is well-formed"));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_are_what_they_say(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        // Kinds that exist, so that decoding gets beyond the first byte.
        let mut bytes = bytes;
        if let Some(kind) = bytes.first_mut() {
            *kind = 1 + *kind % 4;
        }
        check_decoded(bytes)?;
    }

    #[test]
    fn damaged_batches_are_refused_or_are_what_they_say(
        ops in prop::collection::vec(made(), 1..6), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = build(&ops).finish().expect("it is well-formed").bytes().to_vec();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        check_decoded(bytes)?;
    }
}

/// What is accepted has exactly one encoding, which is the bytes.
fn check_decoded(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let Ok(batch) = Batch::decode(Bytes::from(bytes.clone())) else {
        return Ok(());
    };
    let mut again = BatchBuilder::new();
    for op in &batch {
        match op {
            Op::Put { key, value } => again.put(key, value),
            Op::Delete { key } => again.delete(key),
            Op::SingleDelete { key } => again.single_delete(key),
            Op::Add { key, amount } => again.add(key, amount),
            Op::DeleteRange { start, end } => again.delete_range(&KeyRange::new(start.to_vec(), end.to_vec())),
        }
    }
    let again = again.finish().expect("what was decoded keeps all limits");
    prop_assert_eq!(&again.bytes()[..], &bytes[..]);
    prop_assert_eq!(again.len(), batch.len());
    Ok(())
}

#[test]
fn lengths_beyond_the_bytes_are_refused() {
    for bytes in [
        &[1, 0xFF, 0xFF, 0xFF, 0x7F, b'k'][..],
        &[1, 1, b'k', 0xFF, 0xFF, 0xFF, 0x7F],
        &[1, 1, b'k', 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        &[2, 5, b'k'],
        &[1, 1, b'k'],
        &[2],
        &[9, 1, b'k'],
        &[2, 0x81, 0x00, b'k'],
    ] {
        assert_eq!(Batch::decode(Bytes::copy_from_slice(bytes)), Err(Malformed::Operation { at: 0 }), "{bytes:?}");
    }
}

#[test]
fn limits_hold_when_made_and_when_decoded() {
    let long = vec![7; KEY_BYTES_MAX + 1];
    let mut batch = BatchBuilder::new();
    batch.put(&long, b"");
    assert_eq!(batch.finish(), Err(Malformed::KeyLength { bytes: KEY_BYTES_MAX + 1 }));

    let mut batch = BatchBuilder::new();
    batch.delete(b"");
    batch.put(b"k", b"v");
    assert_eq!(batch.finish(), Err(Malformed::KeyLength { bytes: 0 }));

    let mut batch = BatchBuilder::new();
    batch.delete_range(&KeyRange::new(&b"b"[..], &b"a"[..]));
    assert_eq!(batch.finish(), Err(Malformed::EmptyRange));

    assert_eq!(Batch::decode(Bytes::from_static(&[2, 0])), Err(Malformed::KeyLength { bytes: 0 }));
    assert_eq!(Batch::decode(Bytes::from_static(&[4, 1, b'a', 1, b'a'])), Err(Malformed::EmptyRange));

    let mut batch = BatchBuilder::new();
    batch.put(b"k", &vec![0; BATCH_BYTES_MAX]);
    assert!(matches!(batch.finish(), Err(Malformed::TooLong { .. })));
    assert!(matches!(Batch::decode(Bytes::from(vec![0; BATCH_BYTES_MAX + 1])), Err(Malformed::TooLong { .. })));
}

#[test]
fn keys_are_checked_against_ranges() {
    let (low, high) = (KeyRange::new(&b"a"[..], &b"c"[..]), KeyRange::new(&b"x"[..], &b"z"[..]));
    let mut batch = BatchBuilder::new();
    batch.put(b"a", b"1");
    batch.delete(b"bzz");
    batch.single_delete(b"y");
    batch.delete_range(&KeyRange::new(&b"x"[..], &b"z"[..]));
    let within = batch.clone().finish().expect("it is well-formed");
    assert!(within.is_within(&[low.clone(), high.clone()]));
    assert!(!within.is_within(std::slice::from_ref(&low)));
    assert!(Batch::default().is_within(&[]));

    batch.delete_range(&KeyRange::new(&b"b"[..], &b"c\0"[..]));
    assert!(!batch.finish().expect("it is well-formed").is_within(&[low.clone(), high.clone()]));
    let mut batch = BatchBuilder::new();
    batch.put(b"c", b"the end is exclusive");
    assert!(!batch.finish().expect("it is well-formed").is_within(&[low, high]));
}

#[test]
fn rows_are_encoded_in_place() {
    use crate::state::keys::{GROUP_SLOT, GroupRow, group_state};
    use bristlecone_proto::record::{Cursor, GroupState};

    let state = GroupState { cursor: Some(Cursor { number: 7, ..Cursor::default() }), ..GroupState::default() };
    let key = Key::Group { group: 9, row: GroupRow::State };
    let mut batch = BatchBuilder::new();
    batch.put_row(GROUP_SLOT, &key, &state);
    batch.delete_row(GROUP_SLOT, &key);
    let batch = batch.finish().expect("it is well-formed");
    let expected =
        [Op::Put { key: &group_state(9), value: &state.encode_to_vec() }, Op::Delete { key: &group_state(9) }];
    assert!(batch.iter().eq(expected));
    assert_eq!(Batch::decode(batch.bytes().clone()), Ok(batch));
}

#[test]
fn the_encoding_never_moves() {
    let mut batch = BatchBuilder::new();
    batch.put(b"key", &[0xAA; 200]);
    batch.delete(b"d");
    batch.single_delete(b"s");
    batch.delete_range(&KeyRange::new(&b"a"[..], &b"b"[..]));
    let batch = batch.finish().expect("it is well-formed");
    let expected = [&b"\x01\x03key\xC8\x01"[..], &[0xAA; 200], b"\x02\x01d", b"\x03\x01s", b"\x04\x01a\x01b"].concat();
    assert_eq!(batch.bytes()[..], expected[..]);
}
