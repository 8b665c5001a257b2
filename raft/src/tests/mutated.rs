//! Bytes from other nodes and from the log, with something wrong in them: nothing panics, and no decision comes out
//! that was not put in.

use bristlecone_proto::record;
use bytes::Bytes;
use openraft::entry::RaftEntry;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cursor::EpochId;
use crate::entry::{Entry, Envelope, Kind as EntryKind, NewPayload, Payload, Proposal};
use crate::frame::{self, AppendAnswer, AppendHead, Kind, SnapshotAnswer, SnapshotChunk, SnapshotOpen, VoteAsk};
use crate::types;

/// What happens to bytes on their way.
#[derive(Debug, Clone)]
enum Harm {
    Flip { at: usize, bit: u8 },
    Cut { at: usize },
    Insert { at: usize, bytes: Vec<u8> },
    Overwrite { at: usize, bytes: Vec<u8> },
    Double { from: usize, to: usize },
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || any::<prop::sample::Index>().prop_map(|at| at.index(1 << 16));
    prop_oneof![
        (at(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        at().prop_map(|at| Harm::Cut { at }),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Harm::Insert { at, bytes }),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Harm::Overwrite { at, bytes }),
        (at(), at()).prop_map(|(from, to)| Harm::Double { from, to }),
    ]
}

fn harmed(bytes: &[u8], harms: &[Harm]) -> Bytes {
    let mut bytes = bytes.to_vec();
    for harm in harms {
        let len = bytes.len().max(1);
        match harm {
            Harm::Flip { at, bit } => {
                if let Some(byte) = bytes.get_mut(at % len) {
                    *byte ^= 1 << bit;
                }
            }
            Harm::Cut { at } => bytes.truncate(at % len),
            Harm::Insert { at, bytes: more } => {
                let at = (at % len).min(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Harm::Overwrite { at, bytes: more } => {
                for (place, byte) in bytes.iter_mut().skip(at % len).zip(more) {
                    *place = *byte;
                }
            }
            Harm::Double { from, to } => {
                let (from, to) = ((from % len).min(to % len), (from % len).max(to % len));
                let part = bytes.get(from..to).unwrap_or_default().to_vec();
                bytes.splice(from..from, part);
            }
        }
    }
    bytes.into()
}

fn envelope() -> impl Strategy<Value = Envelope> {
    (any::<bool>(), any::<u16>(), any::<[u64; 4]>(), any::<i64>(), vec(any::<u8>(), 0..200)).prop_map(
        |(begin, feature_level, [term, restart, number, meta_index], time, mutations)| Envelope {
            kind: if begin { EntryKind::Begin } else { EntryKind::Decision },
            feature_level,
            epoch: EpochId { term, restart },
            number,
            time,
            meta_index,
            mutations: mutations.into(),
        },
    )
}

fn entry(envelope: &Envelope, index: u64) -> Entry {
    let id = types::log_id_from(&record::LogId { term: 7, node_id: 2, index });
    Entry::new(id, NewPayload::Normal(Proposal::new(envelope)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_changed_envelope_is_never_taken_for_another(envelope in envelope(), harms in vec(harm(), 1..4)) {
        let Payload::Normal(raw) = entry(&envelope, 9).payload else { panic!("a normal entry") };
        prop_assert_eq!(Envelope::decode(&raw), Ok(envelope.clone()));
        let changed = harmed(&raw, &harms);
        if changed != raw {
            prop_assert!(Envelope::decode(&changed).is_err(), "{:?}", harms);
        }
    }

    #[test]
    fn a_changed_entry_carries_its_own_decision_or_none(
        envelope in envelope(), index: u64, harms in vec(harm(), 1..4)
    ) {
        let entry = entry(&envelope, index);
        let decoded = Entry::decode(harmed(&entry.encoded, &harms));
        // Its place in the log is guarded by the log's checksum, and by the link's.
        if let Ok(Entry { payload: Payload::Normal(raw), .. }) = decoded
            && let Ok(found) = Envelope::decode(&raw)
        {
            prop_assert_eq!(found, envelope);
        }
    }

    #[test]
    fn changed_appends_break_nothing(envelopes in vec(envelope(), 0..5), harms in vec(harm(), 0..4)) {
        let entries: Vec<Entry> = envelopes.iter().zip(1..).map(|(envelope, index)| entry(envelope, index)).collect();
        let vote = record::Vote { term: 7, node_id: 2, committed: true };
        let head = AppendHead { vote: Some(vote), previous: None, committed: Some(record::LogId::default()) };
        let bytes = frame::append_request(3, &head, &entries);
        let Ok(request) = frame::decode_request(harmed(&bytes, &harms)) else { return Ok(()) };
        let decoded = frame::decode_append(request.body);
        if harms.is_empty() {
            let (found, found_entries) = decoded.expect("as it was sent");
            prop_assert_eq!((found, found_entries.len()), (head, entries.len()));
            return Ok(());
        }
        for entry in decoded.into_iter().flat_map(|(_, entries)| entries) {
            if let Payload::Normal(raw) = &entry.payload
                && let Ok(found) = Envelope::decode(raw)
            {
                prop_assert!(envelopes.contains(&found));
            }
        }
    }

    #[test]
    fn changed_messages_break_nothing(transfer: u64, tail in vec(any::<u8>(), 0..100), harms in vec(harm(), 1..5)) {
        let chunk = SnapshotChunk { transfer, file: 1, offset: 77, crc: crc32c::crc32c(&tail) };
        let ask = VoteAsk { vote: Some(record::Vote::default()), last: Some(record::LogId::default()), transfer: true };
        let open = SnapshotOpen { transfer, ..SnapshotOpen::default() };
        let requests = [
            frame::request_with(Kind::SnapshotChunk, 3, &chunk, &tail),
            frame::request(Kind::Vote, 3, &ask),
            frame::request(Kind::SnapshotOpen, 3, &open),
        ];
        for request in &requests {
            let Ok(request) = frame::decode_request(harmed(request, &harms)) else { continue };
            drop(frame::decode_sized::<SnapshotChunk>(request.body.clone()));
            drop(frame::decode_append(request.body));
        }
        let answers = [frame::answer(&AppendAnswer::default()), frame::refusal(frame::Status::Stopped)];
        for answer in &answers {
            drop(frame::decode_answer::<AppendAnswer>(harmed(answer, &harms)));
            drop(frame::decode_answer::<SnapshotAnswer>(harmed(answer, &harms)));
        }
    }
}
