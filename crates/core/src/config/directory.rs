//! Who takes part: agents, reviewers, auditors, operators and readers of the evidence.
//!
//! A message's author is the broker's user, so each user belongs to exactly one agent or person.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::expr::Expression;
use super::policy::Facts;

/// A program that proposes actions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id; its actions come from `/agents/<id>`.
    pub id: String,
    /// The broker's user that speaks for it.
    pub amqp_user: String,
    /// The person who answers for it, and therefore may not approve its actions.
    pub owner: Option<String>,
}

impl Agent {
    /// The CloudEvents `source` of its actions.
    pub fn source(&self) -> String {
        format!("/agents/{}", self.id)
    }
}

/// How far a reviewer's authority goes, and when.
#[derive(Debug, Clone)]
pub struct Authority {
    pub(super) when: String,
    pub(super) condition: Arc<Expression>,
    pub(super) from: Option<DateTime<Utc>>,
    pub(super) until: Option<DateTime<Utc>>,
}

/// A reviewer or an auditor.
#[derive(Debug, Clone)]
pub struct Member {
    /// The person's id.
    pub id: String,
    /// The broker's user of the person, or of the app through which they work.
    pub amqp_user: String,
    /// The groups that they serve.
    pub groups: BTreeSet<String>,
    /// What a reviewer may decide; all of it where nothing is said.
    pub authority: Vec<Authority>,
    /// Ed25519 keys that their decisions are signed with: 32 bytes, base64url without padding.
    pub public_keys: Vec<String>,
}

impl Member {
    /// Whether the action lies within the reviewer's authority: one of its entries is in force and holds. One that
    /// cannot be evaluated does not hold.
    ///
    /// # Errors
    /// What the authority reaches to.
    pub fn within_authority(&self, facts: &Facts<'_>) -> Result<(), String> {
        if self.authority.is_empty() {
            return Ok(());
        }
        let bindings = super::policy::bind(facts, |_| true)?;
        let in_force = |entry: &&Authority| {
            entry.from.is_none_or(|from| facts.now >= from)
                && entry.until.is_none_or(|until| facts.now < until)
        };
        let mut reach = Vec::new();
        for entry in self.authority.iter().filter(in_force) {
            match entry.condition.holds(&bindings) {
                Ok(true) => return Ok(()),
                _ => reach.push(entry.when.as_str()),
            }
        }
        Err(match reach.is_empty() {
            true => "your authority is not in force now".to_owned(),
            false => format!("your authority reaches to: {}", reach.join("; or ")),
        })
    }
}

/// A person who runs Countersign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The person's id.
    pub id: String,
}

/// A person or app that reads the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComplianceReader {
    /// The reader's id.
    pub id: String,
    /// The broker's user.
    pub amqp_user: String,
}

/// The checked `directory.yaml`.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(super) groups: Vec<String>,
    pub(super) agents: Vec<Agent>,
    pub(super) reviewers: Vec<Member>,
    pub(super) auditors: Vec<Member>,
    pub(super) operators: Vec<Operator>,
    pub(super) compliance: Vec<ComplianceReader>,
    pub(super) users: HashMap<String, User>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum User {
    Agent(usize),
    Reviewer(usize),
    Auditor(usize),
    Compliance,
}

impl Directory {
    /// The agent that a broker's user speaks for.
    pub fn agent_of_user(&self, amqp_user: &str) -> Option<&Agent> {
        match self.users.get(amqp_user)? {
            User::Agent(index) => self.agents.get(*index),
            _ => None,
        }
    }

    /// The reviewer that a broker's user speaks for.
    pub fn reviewer_of_user(&self, amqp_user: &str) -> Option<&Member> {
        match self.users.get(amqp_user)? {
            User::Reviewer(index) => self.reviewers.get(*index),
            _ => None,
        }
    }

    /// The auditor that a broker's user speaks for.
    pub fn auditor_of_user(&self, amqp_user: &str) -> Option<&Member> {
        match self.users.get(amqp_user)? {
            User::Auditor(index) => self.auditors.get(*index),
            _ => None,
        }
    }

    /// The reviewer of this id.
    pub fn reviewer(&self, id: &str) -> Option<&Member> {
        self.reviewers.iter().find(|reviewer| reviewer.id == id)
    }

    /// The operator of this id.
    pub fn operator(&self, id: &str) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.id == id)
    }

    /// The agent of this id.
    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == id)
    }

    /// All agents, in the file's order.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// All reviewers, in the file's order.
    pub fn reviewers(&self) -> &[Member] {
        &self.reviewers
    }

    /// All auditors, in the file's order.
    pub fn auditors(&self) -> &[Member] {
        &self.auditors
    }

    /// All operators, in the file's order.
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// All readers of the evidence, in the file's order.
    pub fn compliance(&self) -> &[ComplianceReader] {
        &self.compliance
    }

    /// All declared groups, in the file's order.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
}
