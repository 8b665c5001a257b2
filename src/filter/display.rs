//! Filters as text that [`Filter::from_text`] reads back.

use std::fmt::{Display, Formatter, Result, Write};

use super::Filter;
use super::attribute::{Attribute, typed_name};
use super::lex::needs_quotes;
use super::resolve::{Check, Condition, Order};
use super::value::{Value, status_name};

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Some(condition) = &self.condition {
            condition.fmt(f)?;
        }
        if self.group_by_status {
            let space = if self.condition.is_some() { " " } else { "" };
            write!(f, "{space}GROUP BY ExecutionStatus")?;
        }
        for (at, sort) in self.order_by.iter().enumerate() {
            f.write_str(if at == 0 { " ORDER BY " } else { ", " })?;
            column(f, &sort.attribute)?;
            f.write_str(if sort.descending { " DESC" } else { " ASC" })?;
        }
        Ok(())
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::And(all) => joined(f, all, " AND "),
            Self::Or(any) => joined(f, any, " OR "),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                operand(f, inner)
            }
            Self::Test(attribute, check) => {
                column(f, attribute)?;
                f.write_char(' ')?;
                check.fmt(f)
            }
        }
    }
}

fn column(f: &mut Formatter<'_>, attribute: &Attribute) -> Result {
    let name = typed_name(attribute);
    if needs_quotes(&name) { write!(f, "`{}`", name.replace('`', "``")) } else { f.write_str(&name) }
}

fn joined(f: &mut Formatter<'_>, conditions: &[Condition], by: &str) -> Result {
    for (i, condition) in conditions.iter().enumerate() {
        if i > 0 {
            f.write_str(by)?;
        }
        operand(f, condition)?;
    }
    Ok(())
}

fn operand(f: &mut Formatter<'_>, condition: &Condition) -> Result {
    match condition {
        Condition::And(_) | Condition::Or(_) => write!(f, "({condition})"),
        Condition::Not(_) | Condition::Test(..) => condition.fmt(f),
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Equal(value) => write!(f, "= {value}"),
            Self::Order(order, value) => {
                let sign = match order {
                    Order::Less => "<",
                    Order::LessEqual => "<=",
                    Order::Greater => ">",
                    Order::GreaterEqual => ">=",
                };
                write!(f, "{sign} {value}")
            }
            Self::In(values) => {
                f.write_str("IN (")?;
                for (i, value) in values.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{value}")?;
                }
                f.write_char(')')
            }
            Self::Between(from, to) => write!(f, "BETWEEN {from} AND {to}"),
            Self::StartsWith(prefix) => {
                f.write_str("STARTS_WITH ")?;
                quoted(f, prefix)
            }
            Self::Present => f.write_str("IS NOT NULL"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Text(text) => quoted(f, text),
            Self::Int(int) => int.fmt(f),
            // Always with a point or an exponent: a double stays a double.
            Self::Double(double) => write!(f, "{double:?}"),
            Self::Bool(bool) => bool.fmt(f),
            Self::Time(nanos) => nanos.fmt(f),
            Self::Status(status) => write!(f, "'{}'", status_name(*status)),
        }
    }
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> Result {
    f.write_char('\'')?;
    for c in text.chars() {
        match c {
            '\'' => f.write_str("''")?,
            '\\' => f.write_str("\\\\")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('\'')
}
