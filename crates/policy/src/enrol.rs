//! Public keys that a directory has, and putting them where a text names none.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::yaml;
use super::{DIRECTORY_FILE, Problem};

/// The sections whose entries have `public_keys`.
const SECTIONS: [&str; 3] = ["reviewers", "apps", "auditors"];

/// The entries of `public_keys`, as they are written, by the id of who has any.
pub fn keys_of(directory: &str) -> Result<BTreeMap<String, Vec<Value>>, Vec<Problem>> {
    let mut directory: Value = yaml::read(DIRECTORY_FILE, directory)?;
    let found = entries(&mut directory).filter_map(|(id, entry)| {
        let keys = entry.get("public_keys")?.as_array()?.clone();
        (!keys.is_empty()).then_some((id, keys))
    });
    Ok(found.collect())
}

/// The directory's text with `keys` for those who have none in it, and who these are. Where there is nothing to add,
/// the text comes back as it was.
pub fn with_keys(
    directory: &str,
    keys: &BTreeMap<String, Vec<Value>>,
) -> Result<(String, Vec<String>), Vec<Problem>> {
    let mut parsed: Value = yaml::read(DIRECTORY_FILE, directory)?;
    let mut given = Vec::new();
    for (id, entry) in entries(&mut parsed) {
        let none = entry.get("public_keys").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if let Some(keys) = keys.get(&id).filter(|_| none) {
            entry.insert("public_keys".into(), keys.clone().into());
            given.push(id);
        }
    }
    // JSON is YAML.
    let text = if given.is_empty() { directory.to_owned() } else { format!("{parsed:#}") };
    Ok((text, given))
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
