//! `directory.yaml` as it is written, and its way to a checked [`Directory`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::directory::{
    Agent, App, Authority, ComplianceReader, Directory, Member, Operator, PublicKey, User,
};
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
    apps: Vec<RawApp>,
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
    amqp_user: Option<Spanned<String>>,
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    authority: Vec<RawAuthority>,
    #[serde(default)]
    public_keys: Vec<Spanned<RawKey>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    id: Spanned<String>,
    amqp_user: Spanned<String>,
    reviewers: Vec<Spanned<String>>,
    #[serde(default)]
    public_keys: Vec<Spanned<RawKey>>,
}

/// The `x` of a JWK alone, or with the times of its validity.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawKey {
    Plain(String),
    Dated(DatedKey),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatedKey {
    x: String,
    from: Option<String>,
    until: Option<String>,
    revoked_at: Option<String>,
}

fn time(at: u64, text: Option<&str>, problems: &mut Problems) -> Option<DateTime<Utc>> {
    let text = text?;
    let parsed = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    if parsed.is_err() {
        problems.add(at, format!("{text:?} is not a time"), "write one such as 2026-12-31T23:59:59Z");
    }
    parsed.ok()
}

fn public_key(raw: &Spanned<RawKey>, problems: &mut Problems) -> Option<PublicKey> {
    let at = line(raw);
    let (x, dated) = match &raw.value {
        RawKey::Plain(x) => (x, None),
        RawKey::Dated(dated) => (&dated.x, Some(dated)),
    };
    let bytes = URL_SAFE_NO_PAD.decode(x).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let Some(key) = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()) else {
        problems.add(
            at,
            format!("{x:?} is not an Ed25519 public key"),
            "write its 32 bytes as base64url without padding (the x of a JWK)",
        );
        return None;
    };
    let mut when = |pick: fn(&DatedKey) -> Option<&str>| time(at, dated.and_then(pick), problems);
    Some(PublicKey {
        kid: countersign_core::signed::thumbprint(&key),
        key,
        from: when(|dated| dated.from.as_deref()),
        until: when(|dated| dated.until.as_deref()),
        revoked_at: when(|dated| dated.revoked_at.as_deref()),
    })
}

fn public_keys(raw: &[Spanned<RawKey>], problems: &mut Problems) -> Vec<PublicKey> {
    raw.iter().filter_map(|key| public_key(key, problems)).collect()
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
            time(line(&text), Some(&text.value), problems)
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
    /// The broker's user, if there is one, and whose it is.
    fn named(&self, user: User) -> Option<(&Spanned<String>, User)> {
        self.amqp_user.as_ref().map(|name| (name, user))
    }

    fn into_member(self, problems: &mut Problems) -> Member {
        let authority = self.authority.into_iter().filter_map(|entry| entry.into_authority(problems));
        Member {
            authority: authority.collect(),
            id: self.id.value,
            amqp_user: self.amqp_user.map(|user| user.value),
            groups: self.groups.into_iter().map(|group| group.value).collect(),
            public_keys: public_keys(&self.public_keys, problems),
        }
    }
}

impl RawApp {
    fn into_app(self, problems: &mut Problems) -> App {
        App {
            id: self.id.value,
            amqp_user: self.amqp_user.value,
            reviewers: self.reviewers.into_iter().map(|id| id.value).collect(),
            public_keys: public_keys(&self.public_keys, problems),
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
    check_senders(&raw, &mut problems);
    let users = index_users(&raw, &mut problems);
    for auditor in raw.auditors.iter().filter(|auditor| !auditor.authority.is_empty()) {
        problems.add(line(&auditor.id), "an auditor has authority", "only reviewers have it: remove it");
    }
    let mut members =
        |raw: Vec<RawMember>| raw.into_iter().map(|raw| raw.into_member(&mut problems)).collect::<Vec<_>>();
    let (reviewers, auditors) = (members(raw.reviewers), members(raw.auditors));
    let apps = raw.apps.into_iter().map(|app| app.into_app(&mut problems)).collect();
    let directory = Directory {
        groups: raw.groups.into_iter().map(|group| group.value).collect(),
        agents: raw.agents.into_iter().map(RawAgent::into_agent).collect(),
        reviewers,
        apps,
        auditors,
        operators: raw.operators.into_iter().map(|raw| Operator { id: raw.id.value }).collect(),
        compliance: raw.compliance.into_iter().map(RawReader::into_reader).collect(),
        users,
    };
    check_keys(&directory, &mut problems);
    problems.unless_found(directory)
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
    }
}

/// Everybody can be heard, and apps speak for reviewers that there are.
fn check_senders(raw: &RawDirectory, problems: &mut Problems) {
    let reviewers: BTreeSet<&str> = raw.reviewers.iter().map(|reviewer| reviewer.id.value.as_str()).collect();
    let of_apps = || raw.apps.iter().flat_map(|app| &app.reviewers);
    for id in of_apps().filter(|id| !reviewers.contains(id.value.as_str())) {
        problems.add(
            line(id),
            format!("an app speaks for {:?}, who is no reviewer", id.value),
            "name reviewers of this file",
        );
    }
    let heard: BTreeSet<&str> = of_apps().map(|id| id.value.as_str()).collect();
    let reviewers = raw.reviewers.iter().filter(|reviewer| !heard.contains(reviewer.id.value.as_str()));
    for member in reviewers.chain(&raw.auditors).filter(|member| member.amqp_user.is_none()) {
        problems.add(
            line(&member.id),
            format!("nothing can come from {:?}", member.id.value),
            "give an amqp_user, or name the reviewer in an app",
        );
    }
}

/// Nobody signs with a key that is also another's.
fn check_keys(directory: &Directory, problems: &mut Problems) {
    let people = directory.reviewers.iter().chain(&directory.auditors);
    let people = people.map(|member| (&member.id, &member.public_keys));
    let apps = directory.apps.iter().map(|app| (&app.id, &app.public_keys));
    let mut owners = BTreeMap::new();
    for (id, keys) in people.chain(apps) {
        for key in keys {
            if let Some(other) = owners.insert(&key.kid, id) {
                problems.add(
                    0,
                    format!("the public key {:?} of {id:?} is also {other:?}'s", key.kid),
                    "a key proves who signed, so it has one owner: make another, and revoke this one",
                );
            }
        }
    }
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
    let members = members.chain(raw.apps.iter().map(|app| &app.id));
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
    let reviewers = raw.reviewers.iter().enumerate().filter_map(|(i, raw)| raw.named(User::Reviewer(i)));
    let apps = raw.apps.iter().enumerate().map(|(i, raw)| (&raw.amqp_user, User::App(i)));
    let auditors = raw.auditors.iter().enumerate().filter_map(|(i, raw)| raw.named(User::Auditor(i)));
    let compliance = raw.compliance.iter().map(|raw| (&raw.amqp_user, User::Compliance));
    let mut users = HashMap::new();
    for (user, role) in agents.chain(reviewers).chain(apps).chain(auditors).chain(compliance) {
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
