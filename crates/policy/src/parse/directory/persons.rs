//! Who is whom in `directory.yaml`.

use std::collections::HashMap;

use serde_saphyr::Spanned;

use super::{
    super::{problems::Problems, yaml::line},
    document::Document,
};

/// The entries of reviewers, auditors and operators: each id, and the person that it names.
type Entry<'d> = (&'d Spanned<String>, Option<&'d Spanned<String>>);

fn entries(document: &Document) -> impl Iterator<Item = Entry<'_>> {
    let members = document.reviewers.iter().chain(&document.auditors);
    let members = members.map(|member| (&member.id, member.person.as_ref()));
    members.chain(document.operators.iter().map(|operator| (&operator.id, operator.person.as_ref())))
}

/// The person of each id that names another one than itself. A name must mean one person, whether it is written as a
/// person or as an id: whoever is called like an entry is the person of that entry.
pub(super) fn index_persons(document: &Document, problems: &mut Problems) -> HashMap<String, String> {
    let named: HashMap<&str, &str> = entries(document)
        .map(|(id, person)| (id.value.as_str(), person.unwrap_or(id).value.as_str()))
        .collect();
    let apps: Vec<&str> = document.apps.iter().map(|app| app.id.value.as_str()).collect();
    for person in entries(document).filter_map(|(_, person)| person) {
        problems.id("a person", person);
        let name = person.value.as_str();
        if let Some(other) = named.get(name).filter(|other| **other != name) {
            problems.add(
                line(person),
                format!("the person {name:?} is also the id of an entry of the person {other:?}"),
                format!("write person: {other} here as well, or give the entry another id"),
            );
        }
        if apps.contains(&name) {
            problems.add(
                line(person),
                format!("the person {name:?} is an app"),
                "name a person: apps only bring what people have signed",
            );
        }
    }
    let others = named.into_iter().filter(|(id, person)| id != person);
    others.map(|(id, person)| (id.to_owned(), person.to_owned())).collect()
}
