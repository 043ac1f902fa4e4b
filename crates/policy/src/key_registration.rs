//! Carries registered public keys over to a directory text that lists none.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    parse::yaml,
    problem::{DIRECTORY_FILE, Problem},
};

/// The sections whose entries have `public_keys`.
const SECTIONS: [&str; 3] = ["reviewers", "apps", "auditors"];

/// The entries of `public_keys` as written, by the id of each person or app that has any.
///
/// # Errors
/// The text is not YAML. It is not checked further.
pub fn registered_keys(directory: &str) -> Result<BTreeMap<String, Vec<Value>>, Vec<Problem>> {
    let mut directory: Value = yaml::read(DIRECTORY_FILE, directory)?;
    let found = entries(&mut directory).filter_map(|(id, entry)| {
        let keys = entry.get("public_keys")?.as_array()?.clone();
        (!keys.is_empty()).then_some((id, keys))
    });
    Ok(found.collect())
}

/// Adds `keys` to the entries of the directory that have none. Returns the new text and the ids whose entries changed.
/// If none changed, the text is returned as it was.
///
/// # Errors
/// The text is not YAML. It is not checked further.
pub fn add_missing_keys(
    directory: &str,
    keys: &BTreeMap<String, Vec<Value>>,
) -> Result<(String, Vec<String>), Vec<Problem>> {
    let mut parsed: Value = yaml::read(DIRECTORY_FILE, directory)?;
    let mut changed = Vec::new();
    for (id, entry) in entries(&mut parsed) {
        let none = entry.get("public_keys").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if let Some(keys) = keys.get(&id).filter(|_| none) {
            entry.insert("public_keys".into(), keys.clone().into());
            changed.push(id);
        }
    }
    // JSON is YAML.
    let text = if changed.is_empty() { directory.to_owned() } else { format!("{parsed:#}") };
    Ok((text, changed))
}

fn entries(directory: &mut Value) -> impl Iterator<Item = (String, &mut Map<String, Value>)> {
    let sections = directory.as_object_mut().into_iter().flat_map(Map::iter_mut);
    let sections = sections.filter(|(name, _)| SECTIONS.contains(&name.as_str()));
    let entries = sections.filter_map(|(_, section)| section.as_array_mut()).flatten();
    entries.filter_map(|entry| {
        let entry = entry.as_object_mut()?;
        Some((entry.get("id")?.as_str()?.to_owned(), entry))
    })
}
