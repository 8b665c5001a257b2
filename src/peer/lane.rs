//! The lanes between two nodes: each is a connection of its own with its own queue, so that bulk
//! never stands in the way of what must be quick.
//!
//! # Used by
//! The rest of `peer`, and handlers that ask on which lane a Raft message came.

use super::frame::PAYLOAD_BYTES_MAX;

/// One of the connections that a node dials to each of its peers. The numbers are sent in Hello:
/// none is ever given another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Raft heartbeats and votes.
    Control,
    /// Raft appends, in order; a group always uses the same one, see [`Lane::append`].
    AppendEven,
    AppendOdd,
    /// Requests and notices of the nodes themselves.
    Calls,
    /// Raft snapshots.
    Snapshot,
}

/// What a lane holds at most, on either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneLimits {
    /// Frames that wait to be written.
    pub(super) queued_frames_max: usize,
    /// Payload bytes that wait to be written; one frame may always wait, whatever its size.
    pub(super) queued_bytes_max: usize,
    /// Calls that wait for an answer (dialler), or that are being answered (acceptor).
    pub(super) calls_max: usize,
    /// Payload bytes of the calls that an acceptor is answering; one call may always be answered.
    pub(super) call_bytes_max: usize,
}

impl Lane {
    pub const ALL: [Self; 5] = [Self::Control, Self::AppendEven, Self::AppendOdd, Self::Calls, Self::Snapshot];

    /// The lane of a group's appends: always the same, so that their order is kept.
    pub fn append(group_id: u64) -> Self {
        if group_id.is_multiple_of(2) { Self::AppendEven } else { Self::AppendOdd }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Control,
            2 => Self::AppendEven,
            3 => Self::AppendOdd,
            4 => Self::Calls,
            5 => Self::Snapshot,
            _ => return None,
        })
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Control => 1,
            Self::AppendEven => 2,
            Self::AppendOdd => 3,
            Self::Calls => 4,
            Self::Snapshot => 5,
        }
    }

    pub(super) fn limits(self) -> LaneLimits {
        let (queued_frames_max, calls_max, bytes_max) = match self {
            Self::Control => (16_384, 16_384, 16 << 20),
            Self::AppendEven | Self::AppendOdd | Self::Calls => (16_384, 16_384, PAYLOAD_BYTES_MAX),
            Self::Snapshot => (64, 64, PAYLOAD_BYTES_MAX),
        };
        LaneLimits { queued_frames_max, queued_bytes_max: bytes_max, calls_max, call_bytes_max: 2 * bytes_max }
    }
}

/// One of something for each lane.
#[derive(Debug, Clone)]
pub(super) struct PerLane<T>([T; Lane::ALL.len()]);

impl<T> PerLane<T> {
    pub(super) fn new(make: impl FnMut(Lane) -> T) -> Self {
        Self(Lane::ALL.map(make))
    }

    pub(super) fn get(&self, lane: Lane) -> &T {
        let [control, append_even, append_odd, calls, snapshot] = &self.0;
        match lane {
            Lane::Control => control,
            Lane::AppendEven => append_even,
            Lane::AppendOdd => append_odd,
            Lane::Calls => calls,
            Lane::Snapshot => snapshot,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_found_by_its_number() {
        for lane in Lane::ALL {
            assert_eq!(Lane::from_number(lane.number()), Some(lane));
        }
        assert_eq!(Lane::from_number(0), None);
        assert_eq!(Lane::from_number(6), None);
    }

    #[test]
    fn each_lane_has_its_own() {
        let names = PerLane::new(|lane| format!("{lane:?}"));
        for (lane, name) in Lane::ALL.into_iter().zip(names.iter()) {
            assert_eq!((names.get(lane), &format!("{lane:?}")), (name, name));
        }
    }

    #[test]
    fn neighbouring_groups_use_different_connections() {
        assert_ne!(Lane::append(6), Lane::append(7));
        assert_eq!(Lane::append(6), Lane::append(8));
    }
}
