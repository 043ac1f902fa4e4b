//! JSON as CEL values, converted only where an expression reads it.
//!
//! Converting a whole action costs ten times what evaluating a condition on two of its fields does.
//! So `action`, `agent`, `tool` and `action.arguments` are bound unconverted, and a field becomes a CEL value only
//! when it is read.

use std::{collections::HashMap, sync::OnceLock};

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer, Iterable, Iterator as CelIterator, Sizer},
        types::{self, CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, Type},
        value::{CowVal, Val},
    },
};
use serde_json::{Map, Value};

/// The longest list or object that a condition may read. Conditions may loop over one list inside another, so this
/// bounds the work that one message can cause.
pub(super) const MAX_ITEMS: usize = 256;

/// The longest list or object in the arguments of a compensation, which cannot loop: whatever fits in a message. A
/// smaller limit would let an agent choose that its action cannot be undone.
pub(super) const ANY_ITEMS: usize = usize::MAX;

/// Levels below a root that stay unconverted: `action.arguments` is one below.
const LAZY_LEVELS: u8 = 1;

/// A root as an object of unconverted fields; null for anything that is not an object.
pub(super) fn fields_of<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Object(fields) => Box::new(Fields::new(fields, LAZY_LEVELS)),
        _ => Box::new(CelNull),
    }
}

/// The whole value, converted, if no list or object in it has more than `most` items.
pub(super) fn to_val<'v>(value: &'v Value, most: usize) -> Result<Box<dyn Val + 'v>, ExecutionError> {
    Ok(match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(flag) => Box::new(CelBool::from(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Box::new(CelInt::from(int)),
            (None, double) => Box::new(CelDouble::from(double.unwrap_or(f64::NAN))),
        },
        Value::String(text) => Box::new(CelString::from(text.as_str())),
        Value::Array(items) => {
            within_limit(items.len(), most)?;
            let items = items.iter().map(|item| to_val(item, most));
            Box::new(CelList::from(items.collect::<Result<Vec<_>, _>>()?))
        }
        Value::Object(fields) => {
            within_limit(fields.len(), most)?;
            let entries = fields.iter().map(|(key, value)| {
                Ok((CelMapKey::String(CelString::from(key.as_str())), to_val(value, most)?))
            });
            Box::new(CelMap::from(entries.collect::<Result<HashMap<_, _>, ExecutionError>>()?))
        }
    })
}

/// A CEL value as JSON.
pub(super) fn to_json(value: &dyn Val) -> Result<Value, String> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Ok(Value::from(text.inner()));
    }
    if let Some(int) = value.downcast_ref::<CelInt>() {
        return Ok(Value::from(*int.inner()));
    }
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        return Ok(Value::from(*double.inner()));
    }
    if let Some(flag) = value.downcast_ref::<CelBool>() {
        return Ok(Value::from(*flag.inner()));
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        return list.inner().iter().map(|item| to_json(item.as_ref())).collect();
    }
    if let Some(map) = value.downcast_ref::<CelMap>() {
        let entries = map.inner().iter().map(|(key, value)| match key {
            CelMapKey::String(key) => Ok((key.inner().to_owned(), to_json(value.as_ref())?)),
            _ => Err("an object's keys must be strings".to_owned()),
        });
        return entries.collect::<Result<Map<_, _>, _>>().map(Value::Object);
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    Err(format!("a {} cannot be converted to JSON; use string() or int()", value.get_type().name()))
}

fn within_limit(items: usize, most: usize) -> Result<(), ExecutionError> {
    if items <= most {
        return Ok(());
    }
    Err(ExecutionError::UnexpectedType { got: format!("{items} items"), want: format!("at most {most}") })
}

/// An object whose fields are converted when they are read. Unlike other CEL maps it cannot be compared; the check of
/// an expression refuses such comparisons.
#[derive(Debug)]
struct Fields<'v> {
    fields: &'v Map<String, Value>,
    lazy_levels: u8,
    keys: OnceLock<Vec<CelString<'v>>>,
    /// The lists and objects among the fields, each converted when it is read first: however often conditions read
    /// them, an evaluation converts a message once.
    parts: OnceLock<HashMap<&'v str, Part<'v>>>,
}

/// A converted list or object.
type Part<'v> = OnceLock<Result<Box<dyn Val + 'v>, ExecutionError>>;

impl<'v> Fields<'v> {
    fn new(fields: &'v Map<String, Value>, lazy_levels: u8) -> Self {
        Self { fields, lazy_levels, keys: OnceLock::new(), parts: OnceLock::new() }
    }

    fn field<'b>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError> {
        let key = key.downcast_ref::<CelString>().ok_or_else(|| ExecutionError::UnexpectedType {
            got: key.get_type().name().to_owned(),
            want: "the name of a field".to_owned(),
        })?;
        let key = key.inner();
        match self.fields.get(key) {
            Some(value @ (Value::Array(_) | Value::Object(_))) => self.part(key, value),
            Some(value) => to_val(value, MAX_ITEMS).map(CowVal::Owned),
            None => Err(ExecutionError::no_such_key(key)),
        }
    }

    fn part<'b>(&'b self, key: &str, value: &'v Value) -> Result<CowVal<'b, 'v>, ExecutionError> {
        let is_part = |value: &Value| matches!(value, Value::Array(_) | Value::Object(_));
        let parts = self.parts.get_or_init(|| {
            let parts = self.fields.iter().filter(|(_, value)| is_part(value));
            parts.map(|(key, _)| (key.as_str(), Part::new())).collect()
        });
        let part = parts.get(key).ok_or_else(|| ExecutionError::no_such_key(key))?;
        let converted = part.get_or_init(|| match value {
            Value::Object(fields) if self.lazy_levels > 0 => {
                Ok(Box::new(Fields::new(fields, self.lazy_levels - 1)))
            }
            value => to_val(value, MAX_ITEMS),
        });
        match converted {
            Ok(value) => Ok(CowVal::Borrowed(value.as_ref())),
            Err(error) => Err(error.clone()),
        }
    }
}

impl<'v> Val for Fields<'v> {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &types::MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        within_limit(self.fields.len(), MAX_ITEMS).ok().map(|()| self as &(dyn Iterable + 'w))
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(Fields::new(self.fields, self.lazy_levels))
    }
}

impl Container for Fields<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(key.downcast_ref::<CelString>().is_some_and(|key| self.fields.contains_key(key.inner())))
    }
}

impl Sizer for Fields<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.fields.len()).unwrap_or(i64::MAX))
    }
}

impl Indexer for Fields<'_> {
    fn get<'b, 'w>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.field(key)
    }

    fn steal<'w>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.field(key).map(CowVal::into_owned)
    }
}

impl<'v> Iterable for Fields<'v> {
    fn iter<'b, 'w>(&'b self) -> Box<dyn CelIterator<'b, 'w> + 'b>
    where
        Self: 'w,
    {
        let keys =
            self.keys.get_or_init(|| self.fields.keys().map(|k| CelString::from(k.as_str())).collect());
        Box::new(Keys(keys.iter()))
    }
}

struct Keys<'b, 'v>(std::slice::Iter<'b, CelString<'v>>);

impl<'b, 'v: 'w, 'w> CelIterator<'b, 'w> for Keys<'b, 'v> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'w)> {
        self.0.next().map(|key| key as &(dyn Val + 'w))
    }
}
