//! Which promises a planted bug may be caught by: one that is caught by another was not understood, or not found.

use bristlecone_storage::planted::Bug;

use super::run::Outcome;

/// Words of the violations that fit, each the beginning of one.
pub fn fitting(bug: Bug) -> &'static [&'static str] {
    match bug {
        // What was acknowledged is gone: from histories, from the log, or from one replica of several. A damaged
        // log is noticed when it is opened.
        Bug::AckBeforeSync | Bug::SyncErrorIgnored => &["B-1", "B-2", "B-4", "B-5", "replay", "node: the log"],
        // Two leaders of one term, which openraft may notice before anybody else.
        Bug::VoteNotKept => &["B-1", "B-2", "B-4", "B-5", "replay", "panic"],
        Bug::ReadWithoutBarrier => &["B-5"],
        Bug::DedupOff | Bug::DoubleCompletion | Bug::RetriedAsNew => &["B-4"],
        Bug::DeadlinesForgotten | Bug::OutboxForgotten | Bug::OfferedOnce => &["B-3"],
        // Half of the slots are without rows.
        Bug::SnapshotCutShort | Bug::IngestOverOld => &["B-1", "B-2"],
        Bug::WallClock => &["B-6"],
        Bug::LostMemoryApplied | Bug::HoleApplied => &["B-1", "B-2", "B-4", "B-5", "replay"],
        // Rows that no log can bring back.
        Bug::PurgeAboveFlushed => &["B-1", "B-2", "node: the log"],
        Bug::StartedRewritten => &["B-2", "replay"],
        Bug::ShortPages => &["B-2", "B-5"],
    }
}

/// The first violation of a run that fits a bug.
pub fn found(bug: Bug, outcome: &Outcome) -> Option<&String> {
    outcome.violations.iter().find(|violation| {
        // A violation begins with its time.
        let what = violation.split_once(" s: ").map_or(violation.as_str(), |(_, what)| what);
        fitting(bug).iter().any(|word| what.starts_with(word))
    })
}
