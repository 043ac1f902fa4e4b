//! The directory: agents, reviewers, auditors, operators and readers of the evidence.
//!
//! A message is attributed to its broker user, so each broker user belongs to exactly one agent, person or app.

mod key;
mod people;

use std::collections::{BTreeSet, HashMap};

use countersign_core::person::Persons;
pub use key::{KeyRefusal, PublicKey};
pub use people::{Agent, App, Authority, ComplianceReader, Member, Operator, Sender};

/// The agents and people of a checked `directory.yaml`.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) groups: Vec<String>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) reviewers: Vec<Member>,
    pub(crate) apps: Vec<App>,
    pub(crate) auditors: Vec<Member>,
    pub(crate) operators: Vec<Operator>,
    pub(crate) compliance: Vec<ComplianceReader>,
    pub(crate) users: HashMap<String, User>,
    /// The person of each id that is not a person of its own.
    pub(crate) persons: HashMap<String, String>,
}

impl Persons for Directory {
    fn person<'p>(&'p self, id: &'p str) -> &'p str {
        self.persons.get(id).map_or(id, String::as_str)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum User {
    Agent(usize),
    Reviewer(usize),
    App(usize),
    Auditor(usize),
    Compliance,
}

impl Directory {
    /// The agent with this broker user.
    pub fn agent_of_user(&self, amqp_user: &str) -> Option<&Agent> {
        match self.users.get(amqp_user)? {
            User::Agent(index) => self.agents.get(*index),
            _ => None,
        }
    }

    /// The reviewer or app that sends decisions as this broker user.
    pub fn sender_of_user(&self, amqp_user: &str) -> Option<Sender<'_>> {
        match self.users.get(amqp_user)? {
            User::Reviewer(index) => self.reviewers.get(*index).map(Sender::Reviewer),
            User::App(index) => self.apps.get(*index).map(Sender::App),
            _ => None,
        }
    }

    /// The auditor with this broker user.
    pub fn auditor_of_user(&self, amqp_user: &str) -> Option<&Member> {
        match self.users.get(amqp_user)? {
            User::Auditor(index) => self.auditors.get(*index),
            _ => None,
        }
    }

    /// The reviewer with this id.
    pub fn reviewer(&self, id: &str) -> Option<&Member> {
        self.reviewers.iter().find(|reviewer| reviewer.id == id)
    }

    /// The auditor with this id.
    pub fn auditor(&self, id: &str) -> Option<&Member> {
        self.auditors.iter().find(|auditor| auditor.id == id)
    }

    /// The operator with this id.
    pub fn operator(&self, id: &str) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.id == id)
    }

    /// The operator with this database login.
    pub fn operator_of_login(&self, db_user: &str) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.db_user.as_deref() == Some(db_user))
    }

    /// The agent with this id.
    pub fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.iter().find(|agent| agent.id == id)
    }

    /// All agents, in the order of the file.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// All reviewers, in the order of the file.
    pub fn reviewers(&self) -> &[Member] {
        &self.reviewers
    }

    /// The ids of all who can sign statements: reviewers, auditors and apps.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        let people = self.reviewers.iter().chain(&self.auditors).map(|member| member.id.as_str());
        people.chain(self.apps.iter().map(|app| app.id.as_str()))
    }

    /// The keys that may sign for a reviewer: their own, and those of apps that speak for them.
    pub fn keys_for<'d>(&'d self, reviewer: &'d Member) -> impl Iterator<Item = &'d PublicKey> {
        let apps = self.apps.iter().filter(|app| app.reviewers.contains(&reviewer.id));
        reviewer.public_keys.iter().chain(apps.flat_map(|app| &app.public_keys))
    }

    /// Every registered key.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        let people = self.reviewers.iter().chain(&self.auditors).flat_map(|member| &member.public_keys);
        people.chain(self.apps.iter().flat_map(|app| &app.public_keys))
    }

    /// All senders of decisions: reviewers with a broker user of their own, and apps.
    pub fn senders(&self) -> impl Iterator<Item = Sender<'_>> {
        let reviewers = self.reviewers.iter().filter(|reviewer| reviewer.amqp_user.is_some());
        reviewers.map(Sender::Reviewer).chain(self.apps.iter().map(Sender::App))
    }

    /// The groups whose approval requests a sender receives: those of the reviewers for whom it speaks.
    pub fn groups_of(&self, sender: Sender<'_>) -> BTreeSet<String> {
        let reviewers = self.reviewers.iter().filter(|reviewer| sender.speaks_for(&reviewer.id));
        reviewers.flat_map(|reviewer| reviewer.groups.iter().cloned()).collect()
    }

    /// All auditors, in the order of the file.
    pub fn auditors(&self) -> &[Member] {
        &self.auditors
    }

    /// All operators, in the order of the file.
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// All readers of the evidence, in the order of the file.
    pub fn compliance(&self) -> &[ComplianceReader] {
        &self.compliance
    }

    /// All declared groups, in the order of the file.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
}
