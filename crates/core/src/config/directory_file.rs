//! `directory.yaml` as it is written, and its way to a checked [`Directory`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::directory::{Agent, Authority, ComplianceReader, Directory, Member, Operator, User};
use super::expr::{CONDITION, Expression};
use super::yaml::{self, Problems, line};
use super::{DIRECTORY_FILE, Problem};

/// AMQP users of Countersign's own processes begin with this, so nobody else's may.
const RESERVED_USERS: &str = "countersign-";

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
    authority: Vec<RawAuthority>,
    #[serde(default)]
    public_keys: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthority {
    when: Spanned<String>,
    from: Option<Spanned<String>>,
    until: Option<Spanned<String>>,
}

impl RawAuthority {
    fn into_authority(self, problems: &mut Problems) -> Option<Authority> {
        let mut time = |text: Option<Spanned<String>>| {
            let text = text?;
            let parsed = DateTime::parse_from_rfc3339(&text.value).map(|time| time.to_utc());
            if parsed.is_err() {
                let message = format!("{:?} is not a time", text.value);
                problems.add(line(&text), message, "write one such as 2026-12-31T23:59:59Z");
            }
            parsed.ok()
        };
        let (from, until) = (time(self.from), time(self.until));
        match Expression::compile(&self.when.value, &CONDITION) {
            Ok(condition) => {
                Some(Authority { when: self.when.value, condition: Arc::new(condition), from, until })
            }
            Err(complaints) => {
                for complaint in complaints {
                    let message = format!("authority: {}", complaint.message);
                    problems.add(line(&self.when), message, complaint.help);
                }
                None
            }
        }
    }
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
    fn into_member(self, problems: &mut Problems) -> Member {
        let authority = self.authority.into_iter().filter_map(|entry| entry.into_authority(problems));
        Member {
            authority: authority.collect(),
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

/// Parses and checks the text.
pub(super) fn parse(text: &str) -> Result<Directory, Vec<Problem>> {
    let raw: RawDirectory = yaml::read(DIRECTORY_FILE, text)?;
    let mut problems = Problems::new(DIRECTORY_FILE);
    check_groups(&raw, &mut problems);
    check_ids(&raw, &mut problems);
    let users = index_users(&raw, &mut problems);
    for auditor in raw.auditors.iter().filter(|auditor| !auditor.authority.is_empty()) {
        problems.add(line(&auditor.id), "an auditor has authority", "only reviewers have it: remove it");
    }
    let mut members =
        |raw: Vec<RawMember>| raw.into_iter().map(|raw| raw.into_member(&mut problems)).collect::<Vec<_>>();
    let (reviewers, auditors) = (members(raw.reviewers), members(raw.auditors));
    problems.unless_found(Directory {
        groups: raw.groups.into_iter().map(|group| group.value).collect(),
        agents: raw.agents.into_iter().map(RawAgent::into_agent).collect(),
        reviewers,
        auditors,
        operators: raw.operators.into_iter().map(|raw| Operator { id: raw.id.value }).collect(),
        compliance: raw.compliance.into_iter().map(RawReader::into_reader).collect(),
        users,
    })
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
