//! Who takes part: agents, reviewers, auditors, operators and readers of the evidence.
//!
//! A message's author is the broker's user, so each user belongs to exactly one agent or person.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::yaml::{self, Problems, line};
use super::{DIRECTORY_FILE, Problem};

/// AMQP users of Countersign's own processes begin with this, so nobody else's may.
const RESERVED_USERS: &str = "countersign-";

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

/// A reviewer or an auditor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The person's id.
    pub id: String,
    /// The broker's user of the person, or of the app through which they work.
    pub amqp_user: String,
    /// The groups that they serve.
    pub groups: BTreeSet<String>,
    /// Ed25519 keys that their decisions are signed with: 32 bytes, base64url without padding.
    pub public_keys: Vec<String>,
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
    groups: Vec<String>,
    agents: Vec<Agent>,
    reviewers: Vec<Member>,
    auditors: Vec<Member>,
    operators: Vec<Operator>,
    compliance: Vec<ComplianceReader>,
    users: HashMap<String, User>,
}

#[derive(Debug, Clone, Copy)]
enum User {
    Agent(usize),
    Reviewer(usize),
    Auditor(usize),
    Compliance,
}

impl Directory {
    /// Parses and checks the text.
    pub(super) fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let raw: RawDirectory = yaml::read(DIRECTORY_FILE, text)?;
        let mut problems = Problems::new(DIRECTORY_FILE);
        check_groups(&raw, &mut problems);
        check_ids(&raw, &mut problems);
        let users = index_users(&raw, &mut problems);
        problems.unless_found(Self {
            groups: raw.groups.into_iter().map(|group| group.value).collect(),
            agents: raw.agents.into_iter().map(RawAgent::into_agent).collect(),
            reviewers: raw.reviewers.into_iter().map(RawMember::into_member).collect(),
            auditors: raw.auditors.into_iter().map(RawMember::into_member).collect(),
            operators: raw.operators.into_iter().map(|raw| Operator { id: raw.id.value }).collect(),
            compliance: raw.compliance.into_iter().map(RawReader::into_reader).collect(),
            users,
        })
    }

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDirectory {
    groups: Vec<Spanned<String>>,
    agents: Vec<RawAgent>,
    #[serde(default)]
    reviewers: Vec<RawMember>,
    #[serde(default)]
    auditors: Vec<RawMember>,
    #[serde(default)]
    operators: Vec<RawOperator>,
    #[serde(default)]
    compliance: Vec<RawReader>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAgent {
    id: Spanned<String>,
    amqp_user: Spanned<String>,
    owner: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    id: Spanned<String>,
    amqp_user: Spanned<String>,
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    public_keys: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperator {
    id: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReader {
    id: Spanned<String>,
    amqp_user: Spanned<String>,
}

impl RawAgent {
    fn into_agent(self) -> Agent {
        let owner = self.owner.map(|owner| owner.value);
        Agent { id: self.id.value, amqp_user: self.amqp_user.value, owner }
    }
}

impl RawMember {
    fn into_member(self) -> Member {
        Member {
            id: self.id.value,
            amqp_user: self.amqp_user.value,
            groups: self.groups.into_iter().map(|group| group.value).collect(),
            public_keys: self.public_keys.into_iter().map(|key| key.value).collect(),
        }
    }
}

impl RawReader {
    fn into_reader(self) -> ComplianceReader {
        ComplianceReader { id: self.id.value, amqp_user: self.amqp_user.value }
    }
}

fn check_groups(raw: &RawDirectory, problems: &mut Problems) {
    let mut declared = BTreeSet::new();
    for group in &raw.groups {
        problems.id("a group", group);
        if !declared.insert(group.value.as_str()) {
            problems.add(line(group), format!("the group {:?} is declared twice", group.value), "remove one");
        }
    }
    for member in raw.reviewers.iter().chain(&raw.auditors) {
        for group in member.groups.iter().filter(|group| !declared.contains(group.value.as_str())) {
            problems.add(
                line(group),
                format!("{:?} serves the unknown group {:?}", member.id.value, group.value),
                "declare it under groups:, or use a declared one",
            );
        }
        for key in member.public_keys.iter().filter(|key| !is_public_key(&key.value)) {
            problems.add(
                line(key),
                format!("{:?} is not an Ed25519 public key", key.value),
                "write its 32 bytes as base64url without padding (the x of a JWK)",
            );
        }
    }
}

fn is_public_key(text: &str) -> bool {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.is_some_and(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_ok())
}

fn check_ids(raw: &RawDirectory, problems: &mut Problems) {
    let mut agents = BTreeMap::new();
    for agent in &raw.agents {
        unique_id("an agent", &agent.id, &mut agents, problems);
        if let Some(owner) = &agent.owner {
            problems.id("a person", owner);
        }
    }
    let mut people = BTreeMap::new();
    let members = raw.reviewers.iter().chain(&raw.auditors).map(|member| &member.id);
    let operators = raw.operators.iter().map(|operator| &operator.id);
    for id in members.chain(operators).chain(raw.compliance.iter().map(|reader| &reader.id)) {
        unique_id("a person", id, &mut people, problems);
    }
}

fn unique_id<'a>(
    what: &str,
    id: &'a Spanned<String>,
    seen: &mut BTreeMap<&'a str, u64>,
    problems: &mut Problems,
) {
    problems.id(what, id);
    if let Some(first) = seen.insert(&id.value, line(id)) {
        problems.add(
            line(id),
            format!("the id {:?} is already used in line {first}", id.value),
            "give each person and each agent one entry with an id of its own",
        );
    }
}

fn index_users(raw: &RawDirectory, problems: &mut Problems) -> HashMap<String, User> {
    let agents = raw.agents.iter().enumerate().map(|(index, raw)| (&raw.amqp_user, User::Agent(index)));
    let reviewers = raw.reviewers.iter().enumerate().map(|(i, raw)| (&raw.amqp_user, User::Reviewer(i)));
    let auditors = raw.auditors.iter().enumerate().map(|(i, raw)| (&raw.amqp_user, User::Auditor(i)));
    let compliance = raw.compliance.iter().map(|raw| (&raw.amqp_user, User::Compliance));
    let mut users = HashMap::new();
    for (user, role) in agents.chain(reviewers).chain(auditors).chain(compliance) {
        if !yaml::is_name(&user.value) {
            problems.add(
                line(user),
                format!("{:?} is not the name of an AMQP user", user.value),
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
                "give each entry a user of its own: the user is how a message's author is known",
            );
        }
    }
    users
}
