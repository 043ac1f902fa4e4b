//! What a policy refers to in the other files.

use std::collections::{BTreeMap, BTreeSet};

use serde_saphyr::Spanned;

use super::yaml::line;
use crate::{
    directory::Directory,
    problem::{POLICY_FILE, Problem},
    tools::ToolRegistry,
};

/// The groups and tools that a policy names.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// How many people of each group must approve, and the line that requires it.
    approving: BTreeMap<String, (u32, u64)>,
    /// How many people of each group must audit, and the line that requires it.
    auditing: BTreeMap<String, (u32, u64)>,
    /// Groups that need no members, with the line of the first mention.
    named: BTreeMap<String, u64>,
    /// Tools, with the line of the first mention.
    tools: BTreeMap<String, u64>,
}

impl References {
    /// Notes a group of which `count` people must approve.
    pub(super) fn approving(&mut self, group: &Spanned<String>, count: u32) {
        let entry = self.approving.entry(group.value.clone()).or_insert((count, line(group)));
        if count > entry.0 {
            *entry = (count, line(group));
        }
    }

    /// Notes a group of which `count` people must audit.
    pub(super) fn auditing(&mut self, group: &Spanned<String>, count: u32) {
        self.auditing.entry(group.value.clone()).or_insert((count, line(group)));
    }

    /// Notes a group in which a second auditor must be able to confirm the first one's finding.
    pub(super) fn confirming(&mut self, group: &str, at: u64) {
        self.auditing.insert(group.to_owned(), (2, at));
    }

    /// Notes a group that needs no members.
    pub(super) fn named(&mut self, group: &Spanned<String>) {
        self.named.entry(group.value.clone()).or_insert(line(group));
    }

    /// Notes a tool that a condition names.
    pub(super) fn tool(&mut self, name: &str, at: u64) {
        self.tools.entry(name.to_owned()).or_insert(at);
    }

    /// Notes that every audit may need a third auditor.
    pub(super) fn require_third_auditor(&mut self) {
        self.auditing.values_mut().for_each(|(count, _)| *count = (*count).max(3));
    }

    /// Checks that every group has enough members, who are different people: an approval that nobody may decide could only expire,
    /// and an audit that nobody may carry out would stay open forever.
    pub(crate) fn check_groups(&self, directory: &Directory) -> Vec<Problem> {
        let approving = self.approving.iter().map(|(group, (count, at))| (group, *count, *at));
        let auditing = self.auditing.iter().map(|(group, (count, at))| (group, *count, *at));
        let uses = approving
            .map(|used| (used, "reviewer", directory.reviewers()))
            .chain(auditing.map(|used| (used, "auditor", directory.auditors())));
        let unknown = self.named.iter().filter(|(group, _)| !directory.groups().contains(group));
        let unknown = unknown.map(|(group, at)| {
            let help = "declare it under groups: in directory.yaml, or use a declared group";
            Problem::new(POLICY_FILE, *at, format!("unknown group {group:?}"), help)
        });
        let mut problems: Vec<_> = unknown.collect();
        for ((group, count, at), role, members) in uses {
            let present = members.iter().filter(|member| member.groups.contains(group));
            let present = present.map(|member| &member.person).collect::<BTreeSet<_>>().len();
            if !directory.groups().contains(group) {
                let message = format!("unknown group {group:?}");
                let help = "declare it under groups: in directory.yaml, or use a declared group";
                problems.push(Problem::new(POLICY_FILE, at, message, help));
            } else if present == 0 {
                let message = format!("the group {group:?} has no {role}");
                let help = format!("add the group to the groups of at least one {role} in directory.yaml");
                problems.push(Problem::new(POLICY_FILE, at, message, help));
            } else if present < count as usize {
                let message = format!("the group {group:?} needs {count} {role}s and has {present}");
                let help = format!("add the group to the groups of more {role}s in directory.yaml");
                problems.push(Problem::new(POLICY_FILE, at, message, help));
            }
        }
        problems
    }

    /// Checks that every named tool exists: a rule about any other tool would never match.
    pub(crate) fn check_tools(&self, tools: &ToolRegistry) -> Vec<Problem> {
        let unknown = self.tools.iter().filter(|(name, _)| tools.get(name).is_none());
        let problem = |(name, &at): (&String, &u64)| {
            let message = format!("unknown tool {name:?}");
            Problem::new(POLICY_FILE, at, message, "write the name of a tool in tools.yaml")
        };
        unknown.map(problem).collect()
    }
}
