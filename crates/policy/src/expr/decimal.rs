//! `decimal()`: exact amounts in CEL. Amounts are sent as strings or integers. As strings "9" would be greater than
//! "10", and as doubles 0.1 + 0.2 would not equal 0.3.

use std::{any::Any, cmp::Ordering};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        traits::{Adder, Comparer, Multiplier, Negator, Subtractor},
        types::{self, CelInt, CelString, Type},
        value::{CowVal, StaticVal, Val},
    },
};
use rust_decimal::Decimal as Number;

use crate::amount;

static DECIMAL: Type = Type::new_unspecified_type("decimal");

#[derive(Debug, Clone, Copy)]
struct Decimal(Number);

/// Declares `decimal(x)` and `decimal_sum(list)`.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload("decimal", "decimal_from_any", vec![types::DYN_TYPE], decimal)?;
    env.add_overload("decimal_sum", "decimal_sum_of_list", vec![types::LIST_TYPE], decimal_sum)
}

fn decimal<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let value = arguments.first().ok_or_else(ExecutionError::missing_argument_or_target)?;
    read("decimal", value.as_ref()).map(owned)
}

fn decimal_sum<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let list = arguments.first().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let list = list.as_iterable().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let mut items = list.iter();
    let mut sum = Number::ZERO;
    while let Some(item) = items.next() {
        let item = read("decimal_sum", item)?;
        sum = sum.checked_add(item).ok_or_else(|| too_large("decimal_sum"))?;
    }
    Ok(owned(sum))
}

/// Reads a decimal, an integer, or a string such as `-12.50`. The error does not contain the value, which may be
/// personal data.
fn read(function: &str, value: &dyn Val) -> Result<Number, ExecutionError> {
    if let Some(number) = operand(value) {
        return Ok(number);
    }
    let Some(text) = value.downcast_ref::<CelString>() else {
        let kind = value.get_type().name();
        let message = format!("expects a string or an int, found {kind}; send amounts as strings");
        return Err(ExecutionError::function_error(function, message));
    };
    amount::parse(text.inner()).ok_or_else(|| {
        ExecutionError::function_error(function, "the string is not a decimal number such as \"12.50\"")
    })
}

/// The other operand of arithmetic and comparison: a decimal or an integer.
fn operand(value: &dyn Val) -> Option<Number> {
    if let Some(decimal) = value.downcast_ref::<Decimal>() {
        return Some(decimal.0);
    }
    value.downcast_ref::<CelInt>().map(|int| Number::from(*int.inner()))
}

fn owned<'b, 'v>(number: Number) -> CowVal<'b, 'v> {
    CowVal::owned(Decimal(number))
}

fn too_large(function: &str) -> ExecutionError {
    ExecutionError::function_error(function, "the result is too large")
}

fn mismatch(operator: &str, right: &dyn Val) -> ExecutionError {
    let types = vec![DECIMAL.name().to_owned(), right.get_type().name().to_owned()];
    ExecutionError::no_such_overload(operator, types)
}

fn arithmetic<'b, 'v>(
    operator: &str,
    left: Number,
    right: &dyn Val,
    apply: fn(Number, Number) -> Option<Number>,
) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let right = operand(right).ok_or_else(|| mismatch(operator, right))?;
    apply(left, right).map(owned).ok_or_else(|| too_large("decimal"))
}

impl StaticVal for Decimal {}

impl Val for Decimal {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &DECIMAL
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        Some(self)
    }

    fn as_multiplier<'b, 'v>(&'b self) -> Option<&'b (dyn Multiplier + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_negator<'b, 'v>(&'b self) -> Option<&'b (dyn Negator + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_subtractor<'b, 'v>(&'b self) -> Option<&'b (dyn Subtractor + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        operand(other) == Some(self.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Comparer for Decimal {
    fn compare(&self, right: &dyn Val) -> Result<Ordering, ExecutionError> {
        operand(right).map(|right| self.0.cmp(&right)).ok_or_else(|| mismatch("compare", right))
    }
}

impl Adder for Decimal {
    fn add<'b, 'v>(&'b self, right: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        arithmetic("_+_", self.0, right, Number::checked_add)
    }
}

impl Subtractor for Decimal {
    fn sub<'b, 'v>(&'b self, right: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        arithmetic("_-_", self.0, right, Number::checked_sub)
    }
}

impl Multiplier for Decimal {
    fn mul<'b, 'v>(&'b self, right: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        arithmetic("_*_", self.0, right, Number::checked_mul)
    }
}

impl Negator for Decimal {
    fn negate<'v>(&self) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(Box::new(Self(-self.0)))
    }
}
