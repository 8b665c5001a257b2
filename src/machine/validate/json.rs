//! A reader of JSON values: just enough to check the type of a search attribute.
//!
//! # Contract
//! Accepts exactly the grammar of RFC 8259, nested up to [`DEPTH_MAX`]. Objects are recognised, their
//! content is not kept.

use alloc::string::String;
use alloc::vec::Vec;

const DEPTH_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool,
    /// As it is written.
    Number(&'a str),
    /// What stands between the quotes, with escapes resolved.
    String(String),
    Array(Vec<Value<'a>>),
    Object,
}

/// The one value that the text consists of.
pub(super) fn parse(text: &str) -> Option<Value<'_>> {
    let mut reader = Reader { rest: text };
    let value = reader.value(DEPTH_MAX)?;
    reader.skip_space();
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Option<Value<'a>> {
        let depth = depth.checked_sub(1)?;
        self.skip_space();
        match self.rest.as_bytes().first()? {
            b'n' => self.take("null").then_some(Value::Null),
            b't' => self.take("true").then_some(Value::Bool),
            b'f' => self.take("false").then_some(Value::Bool),
            b'"' => self.string().map(Value::String),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            _ => self.number().map(Value::Number),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Value<'a>> {
        let mut items = Vec::new();
        self.take("[");
        self.skip_space();
        if self.take("]") {
            return Some(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            if self.take("]") {
                return Some(Value::Array(items));
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value<'a>> {
        self.take("{");
        self.skip_space();
        if self.take("}") {
            return Some(Value::Object);
        }
        loop {
            self.skip_space();
            self.string()?;
            self.skip_space();
            if !self.take(":") {
                return None;
            }
            self.value(depth)?;
            self.skip_space();
            if self.take("}") {
                return Some(Value::Object);
            }
            if !self.take(",") {
                return None;
            }
        }
    }

    fn number(&mut self) -> Option<&'a str> {
        let start = self.rest;
        self.take("-");
        if !self.take("0") && self.digits() == 0 {
            return None;
        }
        if self.take(".") && self.digits() == 0 {
            return None;
        }
        if self.take("e") || self.take("E") {
            let _signed = self.take("+") || self.take("-");
            if self.digits() == 0 {
                return None;
            }
        }
        start.get(..start.len() - self.rest.len())
    }

    fn string(&mut self) -> Option<String> {
        if !self.take("\"") {
            return None;
        }
        let mut text = String::new();
        loop {
            let next = self.rest.chars().next()?;
            self.rest = self.rest.get(next.len_utf8()..)?;
            match next {
                '"' => return Some(text),
                '\\' => text.push(self.escape()?),
                control if control < ' ' => return None,
                other => text.push(other),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let kind = self.rest.chars().next()?;
        self.rest = self.rest.get(kind.len_utf8()..)?;
        match kind {
            '"' | '\\' | '/' => Some(kind),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'u' => self.unicode(),
            _ => None,
        }
    }

    /// Four hexadecimal digits, or two such escapes that are a surrogate pair; half a pair is replaced.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
            let here = self.rest;
            self.take("\\u");
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
            self.rest = here;
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.rest = self.rest.get(4..)?;
        u32::from_str_radix(digits, 16).ok()
    }

    fn digits(&mut self) -> usize {
        let count = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        self.rest = self.rest.get(count..).unwrap_or_default();
        count
    }

    fn take(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    #[test]
    fn values_are_read() {
        assert_eq!(parse(" null "), Some(Value::Null));
        assert_eq!(parse("-0.5e+10"), Some(Value::Number("-0.5e+10")));
        assert_eq!(parse(r#""a\"\u00e4\ud83d\ude00\ud83dx""#), Some(Value::String("a\"ä😀\u{fffd}x".to_string())));
        assert_eq!(
            parse("[1, true,\"x\"]"),
            Some(Value::Array(vec![Value::Number("1"), Value::Bool, Value::String("x".to_string())]))
        );
        assert_eq!(parse(r#"{"a": {"b": []}, "c": 1}"#), Some(Value::Object));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "nul", "01", "1.", "+1", ".5", "\"a", "\"\\x\"", "[1,]", "[1 2]", "{\"a\"}", "{a:1}", "1 2"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&"[".repeat(100)), None);
        assert_eq!(parse(&("[".repeat(40) + &"]".repeat(40))), None, "too deep");
    }
}
