//! How values are written inside keys, so that keys sort as the values do and none is a prefix of another.
//!
//! # Contract
//! ```text
//! u8, u64          big endian
//! i64              big endian with the sign bit flipped
//! Reverse<i64>     the complement of that: later times first
//! bool             00 or 01
//! Double           IEEE 754 bits, all flipped when negative, else the sign bit: the order of total_cmp
//! Text             UTF-8 with byte 00 as 01 01 and byte 01 as 01 02, then 00
//! Id               01 and 16 raw bytes for a canonical UUID; 02 and Text for anything else
//! Option           00, or 01 and the value
//! an enum          a tag byte, then the fields of the variant
//! ```
//! Every encoding ends where it says itself, so they can follow each other in any order.

use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::fmt;

/// A string inside a key.
pub type Text<'a> = Cow<'a, str>;

/// An id that is usually a UUID. UUIDs sort before all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id<'a> {
    Uuid([u8; 16]),
    /// Never a canonical UUID (lower case, hyphens): use [`Id::new`].
    Other(Text<'a>),
}

/// A floating-point number in the total order of IEEE 754.
#[derive(Debug, Clone, Copy)]
pub struct Double(pub f64);

impl<'a> Id<'a> {
    pub fn new(id: &'a str) -> Self {
        match parse_uuid(id) {
            Some(uuid) => Self::Uuid(uuid),
            None => Self::Other(Cow::Borrowed(id)),
        }
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => {
                for (at, byte) in uuid.iter().enumerate() {
                    let hyphen = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{hyphen}{byte:02x}")?;
                }
                Ok(())
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Double {}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A value inside a key.
pub trait Part<'a>: Sized {
    fn write(&self, key: &mut Vec<u8>);

    /// Takes the value off the front; `None` when the bytes are none of its encodings.
    fn take(rest: &mut &'a [u8]) -> Option<Self>;
}

impl<'a> Part<'a> for u8 {
    fn write(&self, key: &mut Vec<u8>) {
        key.push(*self);
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        Some(*byte)
    }
}

impl<'a> Part<'a> for bool {
    fn write(&self, key: &mut Vec<u8>) {
        key.push(u8::from(*self));
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        match u8::take(rest)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<'a> Part<'a> for u64 {
    fn write(&self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.to_be_bytes());
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        take_array(rest).map(u64::from_be_bytes)
    }
}

const SIGN: u64 = 1 << 63;

impl<'a> Part<'a> for i64 {
    fn write(&self, key: &mut Vec<u8>) {
        (self.cast_unsigned() ^ SIGN).write(key);
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        Some((u64::take(rest)? ^ SIGN).cast_signed())
    }
}

impl<'a> Part<'a> for Reverse<i64> {
    fn write(&self, key: &mut Vec<u8>) {
        (!self.0).write(key);
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        Some(Reverse(!i64::take(rest)?))
    }
}

impl<'a> Part<'a> for Double {
    fn write(&self, key: &mut Vec<u8>) {
        let bits = self.0.to_bits();
        let ordered = if bits & SIGN == 0 { bits ^ SIGN } else { !bits };
        ordered.write(key);
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let ordered = u64::take(rest)?;
        let bits = if ordered & SIGN == 0 { !ordered } else { ordered ^ SIGN };
        Some(Self(f64::from_bits(bits)))
    }
}

impl<'a> Part<'a> for Text<'a> {
    fn write(&self, key: &mut Vec<u8>) {
        write_text_start(self, key);
        key.push(END);
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        let end = rest.iter().position(|byte| *byte == END)?;
        let (escaped, after) = (rest.get(..end)?, rest.get(end + 1..)?);
        *rest = after;
        if !escaped.contains(&ESCAPE) {
            return std::str::from_utf8(escaped).ok().map(Cow::Borrowed);
        }
        let mut text = Vec::with_capacity(escaped.len());
        let mut bytes = escaped.iter();
        while let Some(byte) = bytes.next() {
            text.push(match *byte {
                ESCAPE => match *bytes.next()? {
                    1 => END,
                    2 => ESCAPE,
                    _ => return None,
                },
                other => other,
            });
        }
        String::from_utf8(text).ok().map(Cow::Owned)
    }
}

const END: u8 = 0;
const ESCAPE: u8 = 1;

/// The text without its end: the beginning that all texts share which begin with it.
pub fn write_text_start(text: &str, key: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            END => key.extend_from_slice(&[ESCAPE, 1]),
            ESCAPE => key.extend_from_slice(&[ESCAPE, 2]),
            other => key.push(other),
        }
    }
}

impl<'a> Part<'a> for Id<'a> {
    fn write(&self, key: &mut Vec<u8>) {
        match self {
            Self::Uuid(uuid) => {
                key.push(1);
                key.extend_from_slice(uuid);
            }
            Self::Other(text) => {
                key.push(2);
                text.write(key);
            }
        }
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        match u8::take(rest)? {
            1 => take_array(rest).map(Self::Uuid),
            2 => match Text::take(rest)? {
                uuid if parse_uuid(&uuid).is_some() => None,
                text => Some(Self::Other(text)),
            },
            _ => None,
        }
    }
}

impl<'a, T: Part<'a>> Part<'a> for Option<T> {
    fn write(&self, key: &mut Vec<u8>) {
        match self {
            None => key.push(0),
            Some(value) => {
                key.push(1);
                value.write(key);
            }
        }
    }

    fn take(rest: &mut &'a [u8]) -> Option<Self> {
        match u8::take(rest)? {
            0 => Some(None),
            1 => T::take(rest).map(Some),
            _ => None,
        }
    }
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*array)
}

/// The bytes of a UUID written in lower case with hyphens, and of nothing else.
fn parse_uuid(id: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = id.as_bytes().try_into().ok()?;
    let mut uuid = [0; 16];
    let mut digits = text.iter().enumerate();
    for byte in &mut uuid {
        let mut high = digits.next()?;
        if matches!(high.0, 8 | 13 | 18 | 23) {
            if *high.1 != b'-' {
                return None;
            }
            high = digits.next()?;
        }
        *byte = hex(*high.1)? << 4 | hex(*digits.next()?.1)?;
    }
    Some(uuid)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Declares an enum whose variants are written as a tag byte and their fields in order. Tags must rise,
/// so that the derived order is the order of the encodings.
macro_rules! tagged {
    (
        $(#[$about:meta])*
        pub enum $name:ident $(<$life:lifetime>)? {
            $( $(#[$note:meta])* $tag:literal => $variant:ident $({ $($field:ident : $type:ty),+ $(,)? })? ),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name $(<$life>)? {
            $( $(#[$note])* $variant $({ $($field: $type),+ })? ),+
        }

        impl<'a> $crate::state::keys::code::Part<'a> for $name $(<$life>)? {
            fn write(&self, key: &mut Vec<u8>) {
                match self {
                    $( Self::$variant $({ $($field),+ })? => {
                        key.push($tag);
                        $( $( $field.write(key); )+ )?
                    } )+
                }
            }

            fn take(rest: &mut &'a [u8]) -> Option<Self> {
                match u8::take(rest)? {
                    $( $tag => Some(Self::$variant $({ $($field: $crate::state::keys::code::Part::take(rest)?),+ })?), )+
                    _ => None,
                }
            }
        }
    };
}

pub(super) use tagged;
