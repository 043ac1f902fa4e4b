//! Checks across the entries of `directory.yaml`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use countersign_core::ids::{NAME_MAX, is_name};
use serde_saphyr::Spanned;

use super::{
    super::{
        problems::Problems,
        yaml::{self, line},
    },
    document::Document,
};
use crate::directory::{Directory, User};

/// AMQP users of Countersign's own processes begin with this.
const RESERVED_USERS: &str = "countersign-";
/// Database roles of Countersign's own processes begin with this.
const RESERVED_LOGINS: &str = "countersign_";
/// The longest name of a PostgreSQL role, in bytes.
const LOGIN_MAX: usize = 63;

pub(super) fn check_groups(document: &Document, problems: &mut Problems) {
    let mut declared = BTreeSet::new();
    for group in &document.groups {
        problems.id("a group", group);
        if !declared.insert(group.value.as_str()) {
            problems.add(
                line(group),
                format!("the group {:?} is declared twice", group.value),
                "remove one of the declarations",
            );
        }
    }
    for member in document.reviewers.iter().chain(&document.auditors) {
        for group in member.groups.iter().filter(|group| !declared.contains(group.value.as_str())) {
            problems.add(
                line(group),
                format!("{:?} belongs to the undeclared group {:?}", member.id.value, group.value),
                "declare it under groups:, or use a declared group",
            );
        }
    }
}

/// Checks the versions that agents may have: those that a proposal can state, each once.
pub(super) fn check_versions(document: &Document, problems: &mut Problems) {
    for agent in &document.agents {
        let mut seen = BTreeSet::new();
        for version in agent.versions.iter().flatten() {
            if !is_name(&version.value) {
                problems.add(
                    line(version),
                    format!("{:?} is not a version that an agent can state", version.value),
                    format!("write a string of 1 to {NAME_MAX} bytes without control characters"),
                );
            }
            if !seen.insert(version.value.as_str()) {
                problems.add(
                    line(version),
                    format!("the version {:?} is listed twice", version.value),
                    "remove one of the entries",
                );
            }
        }
    }
}

/// Checks that an agent's quotas let something through.
pub(super) fn check_quotas(document: &Document, problems: &mut Problems) {
    for agent in &document.agents {
        let quotas = &agent.quotas;
        let named = [
            ("rate", &quotas.rate),
            ("in_flight", &quotas.in_flight),
            ("open_requests", &quotas.open_requests),
        ];
        for (name, quota) in named {
            if let Some(quota) = quota.as_ref().filter(|quota| quota.value == 0) {
                problems.add(
                    line(quota),
                    format!("with {name}: 0 nothing of {:?} would ever have its turn", agent.id.value),
                    "give it at least 1; to stop an agent, use `countersign hold`",
                );
            }
        }
    }
}

/// Checks that everybody can send messages, and that apps speak only for reviewers of this file.
pub(super) fn check_senders(document: &Document, problems: &mut Problems) {
    let reviewers: BTreeSet<&str> =
        document.reviewers.iter().map(|reviewer| reviewer.id.value.as_str()).collect();
    let of_apps = || document.apps.iter().flat_map(|app| &app.reviewers);
    for id in of_apps().filter(|id| !reviewers.contains(id.value.as_str())) {
        problems.add(
            line(id),
            format!("an app speaks for {:?}, who is not a reviewer", id.value),
            "list ids of reviewers of this file",
        );
    }
    let represented: BTreeSet<&str> = of_apps().map(|id| id.value.as_str()).collect();
    let reviewers =
        document.reviewers.iter().filter(|reviewer| !represented.contains(reviewer.id.value.as_str()));
    for member in reviewers.chain(&document.auditors).filter(|member| member.amqp_user.is_none()) {
        problems.add(
            line(&member.id),
            format!("{:?} has no way to send messages", member.id.value),
            "add an amqp_user, or, for a reviewer, list the id under an app",
        );
    }
}

/// Checks that no two people or apps share a key.
pub(super) fn check_keys(directory: &Directory, problems: &mut Problems) {
    let people = directory.reviewers.iter().chain(&directory.auditors);
    let people = people.map(|member| (&member.id, &member.public_keys));
    let apps = directory.apps.iter().map(|app| (&app.id, &app.public_keys));
    let mut owners = BTreeMap::new();
    for (id, keys) in people.chain(apps) {
        for key in keys {
            if let Some(other) = owners.insert(&key.kid, id) {
                problems.add(
                    0,
                    format!("{other:?} and {id:?} share the public key {:?}", key.kid),
                    "a key proves who signed: generate one key for each, and revoke this one",
                );
            }
        }
    }
}

pub(super) fn check_ids(document: &Document, problems: &mut Problems) {
    let mut agents = BTreeMap::new();
    for agent in &document.agents {
        check_unique_id("an agent", &agent.id, &mut agents, problems);
        if let Some(owner) = &agent.owner {
            problems.id("a person", owner);
        }
    }
    let mut people = BTreeMap::new();
    let members = document.reviewers.iter().chain(&document.auditors).map(|member| &member.id);
    let members = members.chain(document.apps.iter().map(|app| &app.id));
    let operators = document.operators.iter().map(|operator| &operator.id);
    for id in members.chain(operators).chain(document.compliance.iter().map(|reader| &reader.id)) {
        check_unique_id("a person", id, &mut people, problems);
    }
}

fn check_unique_id<'a>(
    what: &str,
    id: &'a Spanned<String>,
    seen: &mut BTreeMap<&'a str, u64>,
    problems: &mut Problems,
) {
    problems.id(what, id);
    if let Some(first) = seen.insert(&id.value, line(id)) {
        problems.add(
            line(id),
            format!("the id {:?} is already used on line {first}", id.value),
            "give each agent, person and app one entry with a unique id",
        );
    }
}

/// Checks that each operator has a database login of their own: it is how they are known.
pub(super) fn check_logins(document: &Document, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for login in document.operators.iter().filter_map(|operator| operator.db_user.as_ref()) {
        let name = login.value.as_str();
        if !is_name(name) || name.len() > LOGIN_MAX {
            problems.add(
                line(login),
                format!("{name:?} is not a database login"),
                format!(
                    "write the name of a PostgreSQL role: 1 to {LOGIN_MAX} bytes without control characters"
                ),
            );
        }
        if name.to_ascii_lowercase().starts_with(RESERVED_LOGINS) {
            problems.add(
                line(login),
                format!("the database login {name:?} is reserved for Countersign's own roles"),
                format!("make a login of the operator's own, and grant {RESERVED_LOGINS}operator to it"),
            );
        }
        if !seen.insert(name) {
            problems.add(
                line(login),
                format!("the database login {name:?} is used twice"),
                "give each operator a login of their own: they are known by it",
            );
        }
    }
}

pub(super) fn index_users(document: &Document, problems: &mut Problems) -> HashMap<String, User> {
    let agents =
        document.agents.iter().enumerate().map(|(index, entry)| (&entry.amqp_user, User::Agent(index)));
    let reviewers =
        document.reviewers.iter().enumerate().filter_map(|(i, entry)| entry.named(User::Reviewer(i)));
    let apps = document.apps.iter().enumerate().map(|(i, entry)| (&entry.amqp_user, User::App(i)));
    let auditors =
        document.auditors.iter().enumerate().filter_map(|(i, entry)| entry.named(User::Auditor(i)));
    let compliance = document.compliance.iter().map(|entry| (&entry.amqp_user, User::Compliance));
    let mut users = HashMap::new();
    for (user, role) in agents.chain(reviewers).chain(apps).chain(auditors).chain(compliance) {
        if !yaml::is_name(&user.value) {
            problems.add(
                line(user),
                format!("{:?} is not a valid name of an AMQP user", user.value),
                "use 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit",
            );
        }
        if user.value.to_ascii_lowercase().starts_with(RESERVED_USERS) {
            problems.add(
                line(user),
                format!("the AMQP user {:?} is reserved for Countersign's own processes", user.value),
                format!("choose a name that does not begin with {RESERVED_USERS}"),
            );
        }
        if users.insert(user.value.clone(), role).is_some() {
            problems.add(
                line(user),
                format!("the AMQP user {:?} is used twice", user.value),
                "give each entry a user of its own: messages are attributed by their user",
            );
        }
    }
    users
}
