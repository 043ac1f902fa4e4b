//! The JSON Schema of a tool's arguments, within limits.
//!
//! JSON Schema ignores unknown keywords, so a misspelt one would let everything through: they are refused.
//! References are followed to bound the cost of a check, because a few that double at each level could
//! otherwise make it take forever.

use std::collections::HashMap;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;

const MAX_BYTES: usize = 64 * 1024;
const MAX_DEPTH: usize = 32;
const MAX_COST: u64 = 10_000;
const MAX_PATTERN_BYTES: usize = 1 << 18;

/// Keywords with one schema.
const ONE: &[&str] = &[
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords with a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords with schemas by name.
const NAMED: &[&str] = &["properties", "patternProperties", "dependentSchemas", "$defs"];
/// Keywords with plain values.
const PLAIN: &[&str] = &[
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "format",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "$comment",
    "$ref",
];

/// Compiles a schema.
pub(crate) fn compile(schema: &Value) -> Result<Validator, Diagnostic> {
    let bytes = schema.to_string().len();
    if bytes > MAX_BYTES {
        return Err(Diagnostic::new(
            format!("the schema has {bytes} bytes"),
            format!("shorten it to at most {MAX_BYTES}"),
        ));
    }
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(Diagnostic::new(
            "the schema is not of type object",
            "write type: object at its top level",
        ));
    }
    let cost = Walk { root: schema, costs: HashMap::new() }.schema(schema, "#", 0)?;
    if cost > MAX_COST {
        let message = format!("checking arguments against the schema can take {cost} steps");
        let help = format!("keep it within {MAX_COST} steps: nest fewer $ref");
        return Err(Diagnostic::new(message, help));
    }
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .build(schema)
        .map_err(|error| {
            let message = format!("the schema is not valid at {}: {error}", error.instance_path());
            Diagnostic::new(message, "write JSON Schema, draft 2020-12")
        })
}

struct Walk<'s> {
    root: &'s Value,
    /// The cost of each referenced place; `None` while it is being counted.
    costs: HashMap<String, Option<u64>>,
}

impl Walk<'_> {
    /// How many subschemas a check can visit, including referenced ones.
    fn schema(&mut self, schema: &Value, place: &str, depth: usize) -> Result<u64, Diagnostic> {
        if depth > MAX_DEPTH {
            let message = format!("the schema is nested deeper than {MAX_DEPTH} levels at {place}");
            return Err(Diagnostic::new(message, "flatten it"));
        }
        match schema {
            Value::Bool(_) => Ok(1),
            Value::Object(keywords) => {
                let mut cost = 1_u64;
                for (keyword, value) in keywords {
                    let place = format!("{place}/{keyword}");
                    cost = cost.saturating_add(self.keyword(keyword, value, &place, depth + 1)?);
                }
                Ok(cost)
            }
            _ => Err(Diagnostic::new(format!("{place} is not a schema"), "write an object, true or false")),
        }
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &Value,
        place: &str,
        depth: usize,
    ) -> Result<u64, Diagnostic> {
        if ONE.contains(&keyword) {
            return self.schema(value, place, depth);
        }
        if LIST.contains(&keyword) {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            return self.sum(items, place, depth);
        }
        if NAMED.contains(&keyword) {
            let none = Map::new();
            let cost = self.sum(value.as_object().unwrap_or(&none).values(), place, depth)?;
            // Definitions cost only where they are referred to.
            return Ok(if keyword == "$defs" { 0 } else { cost });
        }
        match (keyword, value) {
            ("$ref", Value::String(target)) => self.reference(target, place, depth),
            ("$ref", _) => Err(Diagnostic::new(format!("{place} is not a string"), "write \"#/$defs/name\"")),
            _ if PLAIN.contains(&keyword) => Ok(0),
            _ => Err(Diagnostic::new(
                format!("{place} is not a supported keyword"),
                format!("write one of {}", [ONE, LIST, NAMED, PLAIN].concat().join(", ")),
            )),
        }
    }

    fn sum<'v>(
        &mut self,
        schemas: impl IntoIterator<Item = &'v Value>,
        place: &str,
        depth: usize,
    ) -> Result<u64, Diagnostic> {
        schemas.into_iter().try_fold(0_u64, |sum, schema| {
            let cost = self.schema(schema, place, depth)?;
            Ok(sum.saturating_add(cost))
        })
    }

    fn reference(&mut self, target: &str, place: &str, depth: usize) -> Result<u64, Diagnostic> {
        match self.costs.get(target) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => {
                let message = format!("{place} refers to {target:?}, which contains this reference");
                return Err(Diagnostic::new(message, "write out each level: schemas may not be recursive"));
            }
            None => {}
        }
        let root = self.root;
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        let Some(schema) = found else {
            let message = format!("{place} refers to {target:?}, which is not in this schema");
            return Err(Diagnostic::new(message, "refer to \"#/$defs/name\" and define it under $defs"));
        };
        self.costs.insert(target.to_owned(), None);
        let cost = self.schema(schema, target, depth)?;
        self.costs.insert(target.to_owned(), Some(cost));
        Ok(cost)
    }
}
