//! From a query as it is written to a filter that can be evaluated: names become attributes, literals
//! values, and every operator is checked against its attribute's type.

use bristlecone_proto::temporal::api::enums::v1::IndexedValueType as Kind;

use super::attribute::{Attribute, NAMESPACE_DIVISION, Names};
use super::syntax::{Expr, Literal, Operator, OrderBy, Query, Test};
use super::value::{Value, value};
use super::{Filter, FilterError};

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Test(Attribute, Check),
}

/// A positive test; negative ones stand within [`Condition::Not`].
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// Of a text: has a word in common.
    Equal(Value),
    Order(Order, Value),
    In(Vec<Value>),
    Between(Value, Value),
    StartsWith(String),
    Present,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// One attribute that a listing is sorted by. Executions without it come last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sort {
    pub attribute: Attribute,
    pub descending: bool,
}

pub(super) fn resolve(query: &Query, names: &Names<'_>) -> Result<Filter, FilterError> {
    let group_by_status = group_by_status(query, names)?;
    let order_by = order_by(query, names)?;
    let mut resolver = Resolver { names, mentions_division: false };
    let condition = query.condition.as_ref().map(|expr| resolver.condition(expr)).transpose()?;
    let condition = match names {
        Names::Namespace(_) if !resolver.mentions_division => Some(without_divisions(condition)),
        Names::Namespace(_) | Names::Typed => condition,
    };
    Ok(Filter { condition, group_by_status, order_by })
}

fn group_by_status(query: &Query, names: &Names<'_>) -> Result<bool, FilterError> {
    let error = |text: &str| Err(FilterError::NotSupported(text.into()));
    match query.group_by.as_slice() {
        [] => Ok(false),
        [name] if names.find(name)?.name == "ExecutionStatus" => Ok(true),
        [_] => error("'GROUP BY' clause is only supported for ExecutionStatus"),
        _ => error("'GROUP BY' clause supports only a single field"),
    }
}

fn order_by(query: &Query, names: &Names<'_>) -> Result<Vec<Sort>, FilterError> {
    let sort = |by: &OrderBy| {
        let attribute = names.find(&by.name)?;
        if attribute.kind == Kind::Text {
            let text = "unable to sort by field of Text type, use field of type Keyword";
            return Err(FilterError::Invalid(text.into()));
        }
        Ok(Sort { attribute, descending: by.descending })
    };
    query.order_by.iter().map(sort).collect()
}

pub(super) fn without_divisions(condition: Option<Condition>) -> Condition {
    let division = Attribute { name: NAMESPACE_DIVISION.to_owned(), kind: Kind::Keyword };
    let absent = not(Condition::Test(division, Check::Present));
    match condition {
        Some(condition) => Condition::And(vec![absent, condition]),
        None => absent,
    }
}

struct Resolver<'a> {
    names: &'a Names<'a>,
    mentions_division: bool,
}

impl Resolver<'_> {
    fn condition(&mut self, expr: &Expr) -> Result<Condition, FilterError> {
        Ok(match expr {
            Expr::And(all) => Condition::And(self.conditions(all)?),
            Expr::Or(any) => Condition::Or(self.conditions(any)?),
            Expr::Not(inner) => not(self.condition(inner)?),
            Expr::Test(test) => self.test(test)?,
        })
    }

    fn conditions(&mut self, exprs: &[Expr]) -> Result<Vec<Condition>, FilterError> {
        exprs.iter().map(|expr| self.condition(expr)).collect()
    }

    fn test(&mut self, test: &Test) -> Result<Condition, FilterError> {
        let attribute = self.names.find(&test.name)?;
        self.mentions_division |= attribute.name == NAMESPACE_DIVISION;
        check_operator(&attribute, test)?;
        let mut values = test.literals.iter().map(|literal| value(&attribute, &test.name, literal));
        let mut next = || values.next().unwrap_or_else(|| Err(FilterError::Invalid("incomplete expression".into())));
        let check = match test.operator {
            Operator::Equal | Operator::NotEqual => Check::Equal(next()?),
            Operator::Less => Check::Order(Order::Less, next()?),
            Operator::LessEqual => Check::Order(Order::LessEqual, next()?),
            Operator::Greater => Check::Order(Order::Greater, next()?),
            Operator::GreaterEqual => Check::Order(Order::GreaterEqual, next()?),
            Operator::In | Operator::NotIn => Check::In(values.collect::<Result<_, _>>()?),
            Operator::Between | Operator::NotBetween => Check::Between(next()?, next()?),
            Operator::StartsWith | Operator::NotStartsWith => Check::StartsWith(prefix(&attribute, test)?),
            Operator::IsNull | Operator::IsNotNull => Check::Present,
            Operator::Like | Operator::NotLike => return Err(unsupported(&attribute, test)),
        };
        let condition = Condition::Test(attribute, check);
        Ok(if is_negative(test.operator) { not(condition) } else { condition })
    }
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn is_negative(operator: Operator) -> bool {
    match operator {
        Operator::NotEqual
        | Operator::NotIn
        | Operator::NotBetween
        | Operator::NotStartsWith
        | Operator::NotLike
        | Operator::IsNull => true,
        Operator::Equal
        | Operator::Less
        | Operator::LessEqual
        | Operator::Greater
        | Operator::GreaterEqual
        | Operator::In
        | Operator::Between
        | Operator::StartsWith
        | Operator::Like
        | Operator::IsNotNull => false,
    }
}

fn prefix(attribute: &Attribute, test: &Test) -> Result<String, FilterError> {
    match test.literals.as_slice() {
        [Literal::Text(text)] if attribute.name == "ExecutionStatus" => Ok(text.clone()),
        [literal] => match value(attribute, &test.name, literal)? {
            Value::Text(text) => Ok(text),
            _ => Err(unsupported(attribute, test)),
        },
        _ => Err(unsupported(attribute, test)),
    }
}

/// | type | operators |
/// | --- | --- |
/// | Keyword | all |
/// | KeywordList | = != IN, NOT IN |
/// | Text | = != |
/// | Int, Double, Datetime | = != < <= > >= IN, NOT IN, BETWEEN, NOT BETWEEN |
/// | Bool | = != IN, NOT IN |
///
/// and each of them IS NULL and IS NOT NULL.
fn check_operator(attribute: &Attribute, test: &Test) -> Result<(), FilterError> {
    let kind = attribute.kind;
    let ordered = matches!(kind, Kind::Keyword | Kind::Int | Kind::Double | Kind::Datetime);
    let allowed = match test.operator {
        Operator::Equal | Operator::NotEqual | Operator::IsNull | Operator::IsNotNull => true,
        Operator::In | Operator::NotIn => kind != Kind::Text,
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => ordered,
        Operator::StartsWith | Operator::NotStartsWith => kind == Kind::Keyword,
        Operator::Between | Operator::NotBetween if !ordered => {
            return Err(FilterError::Invalid(format!(
                "cannot do range condition on search attribute '{}' of type {kind:?}",
                test.name
            )));
        }
        Operator::Between | Operator::NotBetween => true,
        Operator::Like | Operator::NotLike => false,
    };
    if allowed { Ok(()) } else { Err(unsupported(attribute, test)) }
}

fn unsupported(attribute: &Attribute, test: &Test) -> FilterError {
    FilterError::NotSupported(format!(
        "operator '{}' not supported for {:?} type search attribute '{}'",
        test.operator.text(),
        attribute.kind,
        test.name
    ))
}
