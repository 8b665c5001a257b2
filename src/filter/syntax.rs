//! Queries as they are written: a parser without knowledge of attributes.
//!
//! ```text
//! query := [expr] [GROUP BY name] [ORDER BY name [ASC|DESC] {, name [ASC|DESC]}]
//! expr  := term {OR term}          term := factor {AND factor}          factor := NOT factor | (expr) | test
//! test  := name (= != <> < <= > >=) value          | name [NOT] IN (value {, value})
//!        | name [NOT] BETWEEN value AND value      | name [NOT] STARTS_WITH value          | name IS [NOT] NULL
//! ```
//!
//! # Used by
//! `resolve.rs` (executions), and the listing of workers, which has attributes of its own.

use super::FilterError;
use super::lex::{Keyword, Word, malformed, words};

/// Bytes of one query.
const QUERY_BYTES_MAX: usize = 256 << 10;
/// Brackets and negations within each other.
const DEPTH_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    pub condition: Option<Expr>,
    pub group_by: Vec<String>,
    pub order_by: Vec<OrderBy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBy {
    pub name: String,
    pub descending: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Test(Test),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    pub name: String,
    pub operator: Operator,
    /// One for a comparison, any number for `In`, two for `Between`, none for `IsNull`.
    pub literals: Vec<Literal>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Between,
    NotBetween,
    StartsWith,
    NotStartsWith,
    Like,
    NotLike,
    IsNull,
    IsNotNull,
}

impl Operator {
    /// As error messages spell it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::Between => "BETWEEN",
            Self::NotBetween => "NOT BETWEEN",
            Self::StartsWith => "STARTS_WITH",
            Self::NotStartsWith => "NOT STARTS_WITH",
            Self::Like => "LIKE",
            Self::NotLike => "NOT LIKE",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }
}

impl Query {
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(FilterError::NotSupported(format!("queries of more than {QUERY_BYTES_MAX} bytes")));
        }
        let mut parser = Parser { words: words(text)?.into_iter().peekable(), depth: 0 };
        let mut query = Self::default();
        if !matches!(parser.peek(), Word::End | Word::Keyword(Keyword::Group | Keyword::Order | Keyword::Limit)) {
            query.condition = Some(parser.expr()?);
        }
        if parser.eat(Keyword::Group) {
            parser.expect(Keyword::By)?;
            query.group_by = parser.group_by()?;
        }
        if parser.eat(Keyword::Order) {
            parser.expect(Keyword::By)?;
            query.order_by = parser.order_by()?;
        }
        if parser.eat(Keyword::Limit) {
            return Err(FilterError::NotSupported("'LIMIT' clause".into()));
        }
        match parser.next() {
            (_, Word::End) => Ok(query),
            (position, word) => Err(unexpected(position, &word)),
        }
    }
}

struct Parser {
    /// Ends with `Word::End`, which is never taken off.
    words: std::iter::Peekable<std::vec::IntoIter<(usize, Word)>>,
    depth: usize,
}

impl Parser {
    fn peek(&mut self) -> &Word {
        self.words.peek().map_or(&Word::End, |(_, word)| word)
    }

    fn next(&mut self) -> (usize, Word) {
        self.words.next().unwrap_or((0, Word::End))
    }

    fn eat(&mut self, keyword: Keyword) -> bool {
        self.eat_word(&Word::Keyword(keyword))
    }

    fn eat_word(&mut self, wanted: &Word) -> bool {
        let found = self.peek() == wanted;
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, keyword: Keyword) -> Result<(), FilterError> {
        self.expect_word(&Word::Keyword(keyword))
    }

    fn expect_word(&mut self, wanted: &Word) -> Result<(), FilterError> {
        match self.next() {
            (_, word) if word == *wanted => Ok(()),
            (position, word) => Err(unexpected(position, &word)),
        }
    }

    fn expr(&mut self) -> Result<Expr, FilterError> {
        let first = self.term()?;
        if !self.eat(Keyword::Or) {
            return Ok(first);
        }
        let mut any = vec![first, self.term()?];
        while self.eat(Keyword::Or) {
            any.push(self.term()?);
        }
        Ok(Expr::Or(any))
    }

    fn term(&mut self) -> Result<Expr, FilterError> {
        let first = self.factor()?;
        if !self.eat(Keyword::And) {
            return Ok(first);
        }
        let mut all = vec![first, self.factor()?];
        while self.eat(Keyword::And) {
            all.push(self.factor()?);
        }
        Ok(Expr::And(all))
    }

    fn factor(&mut self) -> Result<Expr, FilterError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let (position, _) = self.next();
            return Err(malformed("nested too deeply", position, ""));
        }
        let factor = if self.eat(Keyword::Not) {
            Expr::Not(Box::new(self.factor()?))
        } else if self.eat_word(&Word::Open) {
            let inner = self.expr()?;
            self.expect_word(&Word::Close)?;
            inner
        } else {
            Expr::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(factor)
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        let name = self.column()?;
        let not = self.eat(Keyword::Not);
        let (position, word) = self.next();
        let either = |positive, negative| if not { negative } else { positive };
        let operator = match word {
            Word::Keyword(Keyword::In) => either(Operator::In, Operator::NotIn),
            Word::Keyword(Keyword::Between) => either(Operator::Between, Operator::NotBetween),
            Word::Keyword(Keyword::StartsWith) => either(Operator::StartsWith, Operator::NotStartsWith),
            Word::Keyword(Keyword::Like) => either(Operator::Like, Operator::NotLike),
            word if not => return Err(unexpected(position, &word)),
            Word::Keyword(Keyword::Is) => return self.null_test(name),
            Word::Equal => Operator::Equal,
            Word::NotEqual => Operator::NotEqual,
            Word::Less => Operator::Less,
            Word::LessEqual => Operator::LessEqual,
            Word::Greater => Operator::Greater,
            Word::GreaterEqual => Operator::GreaterEqual,
            Word::Open => return Err(FilterError::NotSupported("function expression".into())),
            Word::Sign(_) => return Err(FilterError::NotSupported("arithmetic".into())),
            Word::End | Word::Close | Word::Keyword(Keyword::And | Keyword::Or | Keyword::Group | Keyword::Order) => {
                return Err(FilterError::Invalid("incomplete expression".into()));
            }
            word => return Err(unexpected(position, &word)),
        };
        let literals = match operator {
            Operator::In | Operator::NotIn => self.list()?,
            Operator::Between | Operator::NotBetween => {
                let from = self.literal()?;
                self.expect(Keyword::And)?;
                vec![from, self.literal()?]
            }
            Operator::Equal
            | Operator::NotEqual
            | Operator::Less
            | Operator::LessEqual
            | Operator::Greater
            | Operator::GreaterEqual
            | Operator::StartsWith
            | Operator::NotStartsWith
            | Operator::Like
            | Operator::NotLike => vec![self.literal()?],
            Operator::IsNull | Operator::IsNotNull => Vec::new(),
        };
        Ok(Test { name, operator, literals })
    }

    fn null_test(&mut self, name: String) -> Result<Test, FilterError> {
        let operator = if self.eat(Keyword::Not) { Operator::IsNotNull } else { Operator::IsNull };
        if self.eat(Keyword::Null) {
            return Ok(Test { name, operator, literals: Vec::new() });
        }
        Err(FilterError::Invalid("'IS' operator can only be used as 'IS NULL' or 'IS NOT NULL'".into()))
    }

    fn column(&mut self) -> Result<String, FilterError> {
        match self.next() {
            (_, Word::Name(name)) => Ok(name),
            (_, Word::Text(_) | Word::Int(_) | Word::Float(_) | Word::Keyword(Keyword::True | Keyword::False)) => {
                Err(FilterError::Invalid("must be a column name but was a value".into()))
            }
            (_, Word::Keyword(Keyword::Select)) => Err(FilterError::NotSupported("subquery".into())),
            (position, word) => Err(unexpected(position, &word)),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, FilterError> {
        self.expect_word(&Word::Open)?;
        let mut literals = vec![self.literal()?];
        while self.eat_word(&Word::Comma) {
            literals.push(self.literal()?);
        }
        self.expect_word(&Word::Close)?;
        Ok(literals)
    }

    fn literal(&mut self) -> Result<Literal, FilterError> {
        match self.next() {
            (_, Word::Text(text)) => Ok(Literal::Text(text)),
            (_, Word::Int(int)) => Ok(Literal::Int(int)),
            (_, Word::Float(float)) => Ok(Literal::Float(float)),
            (_, Word::Keyword(Keyword::True)) => Ok(Literal::Bool(true)),
            (_, Word::Keyword(Keyword::False)) => Ok(Literal::Bool(false)),
            (_, Word::Name(_)) if *self.peek() == Word::Open => Err(FilterError::NotSupported("nested func".into())),
            (_, Word::Name(name)) => Err(FilterError::NotSupported(format!(
                "column name on the right side of comparison expression (did you forget to quote {name:?}?)"
            ))),
            (_, Word::Keyword(Keyword::Select)) => Err(FilterError::NotSupported("subquery".into())),
            (_, Word::Keyword(Keyword::Null)) => {
                Err(FilterError::Invalid("NULL can only be used as 'IS NULL' or 'IS NOT NULL'".into()))
            }
            (_, Word::Sign(_)) => Err(FilterError::NotSupported("arithmetic".into())),
            (position, word) => Err(unexpected(position, &word)),
        }
    }

    fn group_by(&mut self) -> Result<Vec<String>, FilterError> {
        self.listed(Self::column)
    }

    fn order_by(&mut self) -> Result<Vec<OrderBy>, FilterError> {
        self.listed(|parser| {
            let name = parser.column()?;
            let descending = !parser.eat(Keyword::Asc) && parser.eat(Keyword::Desc);
            Ok(OrderBy { name, descending })
        })
    }

    fn listed<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, FilterError>) -> Result<Vec<T>, FilterError> {
        let mut all = vec![one(self)?];
        while self.eat_word(&Word::Comma) {
            all.push(one(self)?);
        }
        Ok(all)
    }
}

fn unexpected(position: usize, word: &Word) -> FilterError {
    let near = match word {
        Word::Name(text) | Word::Text(text) => text.clone(),
        Word::Keyword(keyword) => format!("{keyword:?}").to_lowercase(),
        Word::Int(int) => int.to_string(),
        Word::Float(float) => float.to_string(),
        Word::Equal => "=".into(),
        Word::NotEqual => "!=".into(),
        Word::Less => "<".into(),
        Word::LessEqual => "<=".into(),
        Word::Greater => ">".into(),
        Word::GreaterEqual => ">=".into(),
        Word::Open => "(".into(),
        Word::Close => ")".into(),
        Word::Comma => ",".into(),
        Word::Sign(sign) => sign.to_string(),
        Word::End => String::new(),
    };
    malformed("syntax error", position, &near)
}
