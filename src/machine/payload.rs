//! Payloads that the server itself makes, encoded as the SDKs' default converters do it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bristlecone_proto::temporal::api::common::v1::{Payload, Payloads};
use bytes::Bytes;

/// A text, in JSON.
pub(crate) fn text(text: &str) -> Payload {
    json(quoted(text))
}

/// A single text, in JSON.
pub(crate) fn texts(single: &str) -> Payloads {
    Payloads { payloads: vec![text(single)] }
}

/// A word as a search attribute.
pub(crate) fn keyword(word: &str) -> Payload {
    let mut payload = text(word);
    payload.metadata.insert("type".into(), Bytes::from_static(b"Keyword"));
    payload
}

/// A list of words as a search attribute.
pub(crate) fn keyword_list(words: &[&str]) -> Payload {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let mut payload = json(format!("[{}]", words.join(",")));
    payload.metadata.insert("type".into(), Bytes::from_static(b"KeywordList"));
    payload
}

fn json(text: String) -> Payload {
    let encoding = (String::from("encoding"), Bytes::from_static(b"json/plain"));
    Payload { metadata: [encoding].into_iter().collect(), data: text.into(), ..Payload::default() }
}

fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            // As Go's encoder has it, so that the text may stand in HTML.
            '<' | '>' | '&' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(text("a\"b\\c\nd\u{1}é<").data, "\"a\\\"b\\\\c\\nd\\u0001é\\u003c\"");
        assert_eq!(keyword_list(&["a=1", "b"]).data, r#"["a=1","b"]"#);
        assert_eq!(keyword_list(&[]).data, "[]");
    }
}
