//! Who takes part: agents, reviewers, auditors, operators and readers of the evidence.
//!
//! A message's author is the broker's user, so each user belongs to exactly one agent or person.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ed25519_dalek::VerifyingKey;

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
    /// The broker's user of the person; none where they work only through an app.
    pub amqp_user: Option<String>,
    /// The groups that they serve.
    pub groups: BTreeSet<String>,
    /// What a reviewer may decide; all of it where nothing is said.
    pub authority: Vec<Authority>,
    /// What their decisions are signed with.
    pub public_keys: Vec<PublicKey>,
}

/// A registered Ed25519 key, and when what it signs counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its JWK thumbprint (RFC 7638): the `kid` of what it signs.
    pub kid: String,
    /// The key.
    pub key: VerifyingKey,
    /// It counts from then on.
    pub from: Option<DateTime<Utc>>,
    /// It no longer counts from then on.
    pub until: Option<DateTime<Utc>>,
    /// It was taken back then: nothing that it signs counts, whenever that was signed.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Why a registered key does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    /// It has been revoked.
    Revoked,
    /// It is not valid yet, or no longer.
    NotValid,
}

impl PublicKey {
    /// Whether it has been taken back by `now`.
    pub fn is_revoked(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_some_and(|revoked| revoked <= now)
    }

    /// Whether what the key signs counts at `now`.
    ///
    /// # Errors
    /// Why not.
    pub fn counts_at(&self, now: DateTime<Utc>) -> Result<(), KeyRefusal> {
        if self.is_revoked(now) {
            return Err(KeyRefusal::Revoked);
        }
        let valid = self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until);
        if valid { Ok(()) } else { Err(KeyRefusal::NotValid) }
    }
}

/// A program through which several reviewers work.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id.
    pub id: String,
    /// The broker's user that speaks for it.
    pub amqp_user: String,
    /// The reviewers for whom it may speak.
    pub reviewers: BTreeSet<String>,
    /// What it signs with for them.
    pub public_keys: Vec<PublicKey>,
}

/// Who sent a decision or a finding.
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

    /// The broker's user that it publishes as.
    pub fn amqp_user(self) -> Option<&'a str> {
        match self {
            Sender::Reviewer(person) | Sender::Auditor(person) => person.amqp_user.as_deref(),
            Sender::App(app) => Some(&app.amqp_user),
        }
    }

    /// Whether it may bring what `person` signs.
    pub fn speaks_for(self, person: &str) -> bool {
        match self {
            Sender::Reviewer(sender) | Sender::Auditor(sender) => sender.id == person,
            Sender::App(app) => app.reviewers.contains(person),
        }
    }

    /// The app's own keys.
    pub fn keys(self) -> &'a [PublicKey] {
        match self {
            Sender::Reviewer(_) | Sender::Auditor(_) => &[],
            Sender::App(app) => &app.public_keys,
        }
    }
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
    pub(super) apps: Vec<App>,
    pub(super) auditors: Vec<Member>,
    pub(super) operators: Vec<Operator>,
    pub(super) compliance: Vec<ComplianceReader>,
    pub(super) users: HashMap<String, User>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum User {
    Agent(usize),
    Reviewer(usize),
    App(usize),
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

    /// Who sends decisions as a broker's user.
    pub fn sender_of_user(&self, amqp_user: &str) -> Option<Sender<'_>> {
        match self.users.get(amqp_user)? {
            User::Reviewer(index) => self.reviewers.get(*index).map(Sender::Reviewer),
            User::App(index) => self.apps.get(*index).map(Sender::App),
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

    /// The auditor of this id.
    pub fn auditor(&self, id: &str) -> Option<&Member> {
        self.auditors.iter().find(|auditor| auditor.id == id)
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

    /// The ids of everybody who signs: reviewers, apps, auditors.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        let people = self.reviewers.iter().chain(&self.auditors).map(|member| member.id.as_str());
        people.chain(self.apps.iter().map(|app| app.id.as_str()))
    }

    /// The keys that may sign for a reviewer: their own, and those of the apps that speak for them.
    pub fn keys_for<'d>(&'d self, reviewer: &'d Member) -> impl Iterator<Item = &'d PublicKey> {
        let apps = self.apps.iter().filter(|app| app.reviewers.contains(&reviewer.id));
        reviewer.public_keys.iter().chain(apps.flat_map(|app| &app.public_keys))
    }

    /// Every registered key.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        let people = self.reviewers.iter().chain(&self.auditors).flat_map(|member| &member.public_keys);
        people.chain(self.apps.iter().flat_map(|app| &app.public_keys))
    }

    /// Everybody who can send decisions: reviewers with a user of their own, and apps.
    pub fn senders(&self) -> impl Iterator<Item = Sender<'_>> {
        let reviewers = self.reviewers.iter().filter(|reviewer| reviewer.amqp_user.is_some());
        reviewers.map(Sender::Reviewer).chain(self.apps.iter().map(Sender::App))
    }

    /// The groups whose requests a sender is shown: those of the reviewers for whom it speaks.
    pub fn groups_of(&self, sender: Sender<'_>) -> BTreeSet<String> {
        let reviewers = self.reviewers.iter().filter(|reviewer| sender.speaks_for(&reviewer.id));
        reviewers.flat_map(|reviewer| reviewer.groups.iter().cloned()).collect()
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
