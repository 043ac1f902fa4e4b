//! The agents, people and apps of a directory.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use countersign_core::{ids::ActionRef, quota::AgentQuotas};

use super::key::PublicKey;
use crate::{expr::Expression, facts::Facts};

/// A program that proposes actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id. The `source` of its actions is `/agents/<id>`.
    pub id: String,
    /// Its broker user.
    pub amqp_user: String,
    /// The person responsible for it, by name or by an id of theirs, who therefore may not approve its actions.
    pub owner: Option<String>,
    /// The versions that it may have; any if `None`.
    pub versions: Option<BTreeSet<String>>,
    /// How much of it may be under way, where that differs from the settings.
    pub quotas: AgentQuotas,
}

impl Agent {
    /// The CloudEvents `source` of its actions.
    pub fn source(&self) -> String {
        ActionRef::source_of(&self.id)
    }

    /// Whether a version is one that it may have. A version that is not listed begins in pre-approval.
    pub fn lists(&self, version: &str) -> bool {
        self.versions.as_ref().is_none_or(|versions| versions.contains(version))
    }
}

/// Actions that a reviewer may decide, and the period in which they may.
#[derive(Debug, Clone)]
pub struct Authority {
    pub(crate) when: String,
    pub(crate) condition: Arc<Expression>,
    pub(crate) from: Option<DateTime<Utc>>,
    pub(crate) until: Option<DateTime<Utc>>,
}

/// A reviewer or an auditor.
#[derive(Debug, Clone)]
pub struct Member {
    /// The id under which they decide or judge.
    pub id: String,
    /// The person, who may have entries under other ids.
    pub person: String,
    /// The person's broker user; `None` if they work only through an app.
    pub amqp_user: Option<String>,
    /// The groups that they belong to.
    pub groups: BTreeSet<String>,
    /// What a reviewer may decide; everything that reaches their groups if empty.
    pub authority: Vec<Authority>,
    /// The keys that may sign their statements.
    pub public_keys: Vec<PublicKey>,
}

impl Member {
    /// Checks that the action is within the reviewer's authority: at least one entry is in force and its condition is
    /// true. A condition that cannot be evaluated counts as false.
    ///
    /// # Errors
    /// What the authority covers, as a text for the reviewer.
    pub fn within_authority(&self, facts: &Facts<'_>) -> Result<(), String> {
        if self.authority.is_empty() {
            return Ok(());
        }
        let bindings = facts.bind(|_| true)?;
        let in_force = |entry: &&Authority| {
            entry.from.is_none_or(|from| facts.now >= from)
                && entry.until.is_none_or(|until| facts.now < until)
        };
        let mut covered = Vec::new();
        for entry in self.authority.iter().filter(in_force) {
            match entry.condition.holds(&bindings) {
                Ok(true) => return Ok(()),
                _ => covered.push(entry.when.as_str()),
            }
        }
        Err(match covered.is_empty() {
            true => "your authority is not in force now".to_owned(),
            false => format!("your authority covers only: {}", covered.join("; or ")),
        })
    }
}

/// A program through which several reviewers work.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id, unique among people and apps.
    pub id: String,
    /// Its broker user.
    pub amqp_user: String,
    /// The ids of the reviewers for whom it may send decisions.
    pub reviewers: BTreeSet<String>,
    /// The keys with which it signs for them.
    pub public_keys: Vec<PublicKey>,
}

/// The sender of a decision or a finding.
#[derive(Debug, Clone, Copy)]
pub enum Sender<'a> {
    /// A reviewer.
    Reviewer(&'a Member),
    /// An auditor.
    Auditor(&'a Member),
    /// An app, for one of its reviewers.
    App(&'a App),
}

impl<'a> Sender<'a> {
    /// The id of the person or the app.
    pub fn id(self) -> &'a str {
        match self {
            Sender::Reviewer(person) | Sender::Auditor(person) => &person.id,
            Sender::App(app) => &app.id,
        }
    }

    /// The broker user as which it publishes.
    pub fn amqp_user(self) -> Option<&'a str> {
        match self {
            Sender::Reviewer(person) | Sender::Auditor(person) => person.amqp_user.as_deref(),
            Sender::App(app) => Some(&app.amqp_user),
        }
    }

    /// Whether it may send statements that `person` signs.
    pub fn speaks_for(self, person: &str) -> bool {
        match self {
            Sender::Reviewer(sender) | Sender::Auditor(sender) => sender.id == person,
            Sender::App(app) => app.reviewers.contains(person),
        }
    }

    /// The app's own keys; empty for a person.
    pub fn keys(self) -> &'a [PublicKey] {
        match self {
            Sender::Reviewer(_) | Sender::Auditor(_) => &[],
            Sender::App(app) => &app.public_keys,
        }
    }
}

/// A person who runs Countersign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The id under which they act.
    pub id: String,
    /// The person, who may have entries under other ids.
    pub person: String,
    /// The database login that is theirs alone; without one they cannot act.
    pub db_user: Option<String>,
}

/// A person or app that reads the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComplianceReader {
    /// The reader's id.
    pub id: String,
    /// The reader's broker user.
    pub amqp_user: String,
}
