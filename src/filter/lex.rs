//! Words of the query language, with their positions.

use super::FilterError;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// A column name, quoted by back ticks or not.
    Name(String),
    Keyword(Keyword),
    Text(String),
    Int(i64),
    Float(f64),
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Open,
    Close,
    Comma,
    /// Arithmetic, which the language lacks, and a star.
    Sign(char),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    In,
    Between,
    Is,
    Null,
    Like,
    StartsWith,
    Group,
    Order,
    By,
    Asc,
    Desc,
    Limit,
    Where,
    Select,
    True,
    False,
}

const KEYWORDS: [(&str, Keyword); 19] = [
    ("and", Keyword::And),
    ("or", Keyword::Or),
    ("not", Keyword::Not),
    ("in", Keyword::In),
    ("between", Keyword::Between),
    ("is", Keyword::Is),
    ("null", Keyword::Null),
    ("like", Keyword::Like),
    ("starts_with", Keyword::StartsWith),
    ("group", Keyword::Group),
    ("order", Keyword::Order),
    ("by", Keyword::By),
    ("asc", Keyword::Asc),
    ("desc", Keyword::Desc),
    ("limit", Keyword::Limit),
    ("where", Keyword::Where),
    ("select", Keyword::Select),
    ("true", Keyword::True),
    ("false", Keyword::False),
];

/// Whether a name has to be quoted to be read as a name.
pub(super) fn needs_quotes(name: &str) -> bool {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(starts_name) && chars.all(continues_name);
    !plain || keyword(name).is_some()
}

/// Splits a query into words; the last one is `End`. Positions count characters from 1.
pub(super) fn words(query: &str) -> Result<Vec<(usize, Word)>, FilterError> {
    let mut lexer = Lexer { rest: query.chars().peekable(), position: 1 };
    let mut words = Vec::new();
    loop {
        lexer.skip_space();
        let position = lexer.position;
        let word = lexer.word()?;
        let last = word == Word::End;
        words.push((position, word));
        if last {
            return Ok(words);
        }
    }
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    position: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.position += usize::from(next.is_some());
        next
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest.peek() == Some(&wanted);
        if found {
            self.next();
        }
        found
    }

    fn skip_space(&mut self) {
        while self.rest.peek().is_some_and(|c| c.is_whitespace()) {
            self.next();
        }
    }

    fn word(&mut self) -> Result<Word, FilterError> {
        let position = self.position;
        let Some(first) = self.next() else { return Ok(Word::End) };
        Ok(match first {
            '(' => Word::Open,
            ')' => Word::Close,
            ',' => Word::Comma,
            '=' => Word::Equal,
            '!' if self.eat('=') => Word::NotEqual,
            '<' if self.eat('=') => Word::LessEqual,
            '<' if self.eat('>') => Word::NotEqual,
            '<' => Word::Less,
            '>' if self.eat('=') => Word::GreaterEqual,
            '>' => Word::Greater,
            '\'' | '"' => Word::Text(self.quoted(first, position)?),
            '`' => Word::Name(self.back_ticked(position)?),
            '-' if self.rest.peek().is_some_and(|c| c.is_ascii_digit() || *c == '.') => {
                self.number(String::from('-'), position)?
            }
            '.' if self.rest.peek().is_some_and(char::is_ascii_digit) => self.number(String::from('.'), position)?,
            c if c.is_ascii_digit() => self.number(String::from(c), position)?,
            c if starts_name(c) => self.name(c),
            '-' | '+' | '*' | '/' | '%' => Word::Sign(first),
            other => return Err(malformed("syntax error", position, &other.to_string())),
        })
    }

    fn name(&mut self, first: char) -> Word {
        let mut name = String::from(first);
        while let Some(c) = self.rest.next_if(|c| continues_name(*c)) {
            self.position += 1;
            name.push(c);
        }
        keyword(&name).map_or(Word::Name(name), Word::Keyword)
    }

    fn number(&mut self, mut text: String, position: usize) -> Result<Word, FilterError> {
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '.') {
            self.position += 1;
            text.push(c);
            if matches!(c, 'e' | 'E') && self.rest.peek().is_some_and(|c| matches!(c, '-' | '+')) {
                text.extend(self.next());
            }
        }
        if let Ok(int) = text.parse() {
            return Ok(Word::Int(int));
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(Word::Float(float)),
            _ => Err(malformed("syntax error", position, &text)),
        }
    }

    /// The rest of a string; the quote itself is written twice or after a backslash.
    fn quoted(&mut self, quote: char, position: usize) -> Result<String, FilterError> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            if c == quote {
                if !self.eat(quote) {
                    return Ok(text);
                }
                text.push(quote);
            } else if c == '\\' {
                let escaped = self.next().ok_or_else(|| malformed("unterminated string", position, &text))?;
                text.push(match escaped {
                    '0' => '\0',
                    'b' => '\u{8}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'Z' => '\u{1a}',
                    other => other,
                });
            } else {
                text.push(c);
            }
        }
        Err(malformed("unterminated string", position, &text))
    }

    fn back_ticked(&mut self, position: usize) -> Result<String, FilterError> {
        let mut name = String::new();
        while let Some(c) = self.next() {
            if c == '`' && !self.eat('`') {
                return if name.is_empty() { Err(malformed("empty name", position, "``")) } else { Ok(name) };
            }
            name.push(c);
        }
        Err(malformed("unterminated name", position, &name))
    }
}

/// `near` is cut to a few words' length: it goes into an error message.
pub(super) fn malformed(reason: &'static str, position: usize, near: &str) -> FilterError {
    const NEAR_CHARS: usize = 60;
    let near = if near.is_empty() {
        String::new()
    } else {
        format!(" near '{}'", near.chars().take(NEAR_CHARS).collect::<String>())
    };
    FilterError::Malformed { reason, position, near }
}

fn keyword(name: &str) -> Option<Keyword> {
    KEYWORDS.iter().find(|(text, _)| name.eq_ignore_ascii_case(text)).map(|(_, keyword)| *keyword)
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == '@'
}

fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '$' | '.')
}
