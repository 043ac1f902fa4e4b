//! `directory.yaml`.

mod check;
mod document;
mod key;
mod persons;

use check::{
    check_groups, check_ids, check_keys, check_logins, check_quotas, check_senders, check_versions,
    index_users,
};
use document::{AgentEntry, Document, MemberEntry, OperatorEntry, ReaderEntry};
use persons::index_persons;

use super::{
    problems::Problems,
    yaml::{self, line},
};
use crate::{
    directory::Directory,
    problem::{DIRECTORY_FILE, Problem},
};

/// Parses and checks the text.
pub(crate) fn parse(text: &str) -> Result<Directory, Vec<Problem>> {
    let document: Document = yaml::read(DIRECTORY_FILE, text)?;
    let mut problems = Problems::new(DIRECTORY_FILE);
    check_groups(&document, &mut problems);
    check_ids(&document, &mut problems);
    check_senders(&document, &mut problems);
    check_versions(&document, &mut problems);
    check_quotas(&document, &mut problems);
    let users = index_users(&document, &mut problems);
    check_logins(&document, &mut problems);
    let persons = index_persons(&document, &mut problems);
    for auditor in document.auditors.iter().filter(|auditor| !auditor.authority.is_empty()) {
        let message = format!("the auditor {:?} has authority entries", auditor.id.value);
        problems.add(line(&auditor.id), message, "remove them: only reviewers have authority");
    }
    let mut members = |entries: Vec<MemberEntry>| {
        entries.into_iter().map(|entry| entry.into_model(&mut problems)).collect::<Vec<_>>()
    };
    let (reviewers, auditors) = (members(document.reviewers), members(document.auditors));
    let apps = document.apps.into_iter().map(|app| app.into_model(&mut problems)).collect();
    let directory = Directory {
        groups: document.groups.into_iter().map(|group| group.value).collect(),
        agents: document.agents.into_iter().map(AgentEntry::into_model).collect(),
        reviewers,
        apps,
        auditors,
        operators: document.operators.into_iter().map(OperatorEntry::into_model).collect(),
        compliance: document.compliance.into_iter().map(ReaderEntry::into_model).collect(),
        users,
        persons,
    };
    check_keys(&directory, &mut problems);
    problems.within_cost();
    problems.unless_found(directory)
}
