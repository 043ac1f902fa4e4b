//! `directory.yaml` as it is written.

use std::sync::Arc;

use countersign_core::quota::{AgentQuotas, OverQuota};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{
    super::{problems::Problems, yaml::line},
    key::{KeyEntry, public_keys},
};
use crate::{
    directory::{Agent, App, Authority, ComplianceReader, Member, Operator, User},
    expr::CONDITION,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) groups: Vec<Spanned<String>>,
    pub(super) agents: Vec<AgentEntry>,
    #[serde(default)]
    pub(super) reviewers: Vec<MemberEntry>,
    #[serde(default)]
    pub(super) apps: Vec<AppEntry>,
    #[serde(default)]
    pub(super) auditors: Vec<MemberEntry>,
    #[serde(default)]
    pub(super) operators: Vec<OperatorEntry>,
    #[serde(default)]
    pub(super) compliance: Vec<ReaderEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentEntry {
    pub(super) id: Spanned<String>,
    pub(super) amqp_user: Spanned<String>,
    pub(super) owner: Option<Spanned<String>>,
    pub(super) versions: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) quotas: QuotasEntry,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuotasEntry {
    pub(super) rate: Option<Spanned<u32>>,
    pub(super) in_flight: Option<Spanned<u32>>,
    pub(super) open_requests: Option<Spanned<u32>>,
    waiting: Option<u32>,
    exceeded: Option<OverQuota>,
}

impl QuotasEntry {
    fn into_model(self) -> AgentQuotas {
        let value = |entry: Option<Spanned<u32>>| entry.map(|entry| entry.value);
        AgentQuotas {
            rate: value(self.rate),
            in_flight: value(self.in_flight),
            open_requests: value(self.open_requests),
            waiting: self.waiting,
            exceeded: self.exceeded,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberEntry {
    pub(super) id: Spanned<String>,
    pub(super) person: Option<Spanned<String>>,
    pub(super) amqp_user: Option<Spanned<String>>,
    pub(super) groups: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) authority: Vec<AuthorityEntry>,
    #[serde(default)]
    pub(super) public_keys: Vec<Spanned<KeyEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppEntry {
    pub(super) id: Spanned<String>,
    pub(super) amqp_user: Spanned<String>,
    pub(super) reviewers: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) public_keys: Vec<Spanned<KeyEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorityEntry {
    when: Spanned<String>,
    from: Option<Spanned<String>>,
    until: Option<Spanned<String>>,
}

impl AuthorityEntry {
    fn into_model(self, problems: &mut Problems) -> Option<Authority> {
        let mut time = |field, text: Option<Spanned<String>>| {
            let text = text?;
            problems.time(field, line(&text), &text.value)
        };
        let (from, until) = (time("from", self.from), time("until", self.until));
        let condition = problems.expression("authority", &self.when, &CONDITION)?;
        Some(Authority { when: self.when.value, condition: Arc::new(condition), from, until })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperatorEntry {
    pub(super) id: Spanned<String>,
    pub(super) person: Option<Spanned<String>>,
    pub(super) db_user: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReaderEntry {
    pub(super) id: Spanned<String>,
    pub(super) amqp_user: Spanned<String>,
}

impl AgentEntry {
    pub(super) fn into_model(self) -> Agent {
        let owner = self.owner.map(|owner| owner.value);
        let versions =
            self.versions.map(|versions| versions.into_iter().map(|version| version.value).collect());
        let quotas = self.quotas.into_model();
        Agent { id: self.id.value, amqp_user: self.amqp_user.value, owner, versions, quotas }
    }
}

impl MemberEntry {
    /// The broker user, if there is one, with its role.
    pub(super) fn named(&self, user: User) -> Option<(&Spanned<String>, User)> {
        self.amqp_user.as_ref().map(|name| (name, user))
    }

    pub(super) fn into_model(self, problems: &mut Problems) -> Member {
        let authority = self.authority.into_iter().filter_map(|entry| entry.into_model(problems));
        Member {
            authority: authority.collect(),
            person: named(self.person, &self.id),
            id: self.id.value,
            amqp_user: self.amqp_user.map(|user| user.value),
            groups: self.groups.into_iter().map(|group| group.value).collect(),
            public_keys: public_keys(&self.public_keys, problems),
        }
    }
}

impl OperatorEntry {
    pub(super) fn into_model(self) -> Operator {
        let db_user = self.db_user.map(|login| login.value);
        Operator { person: named(self.person, &self.id), id: self.id.value, db_user }
    }
}

/// The person of an entry: whom it names, or its own id.
fn named(person: Option<Spanned<String>>, id: &Spanned<String>) -> String {
    person.map_or_else(|| id.value.clone(), |person| person.value)
}

impl AppEntry {
    pub(super) fn into_model(self, problems: &mut Problems) -> App {
        App {
            id: self.id.value,
            amqp_user: self.amqp_user.value,
            reviewers: self.reviewers.into_iter().map(|id| id.value).collect(),
            public_keys: public_keys(&self.public_keys, problems),
        }
    }
}

impl ReaderEntry {
    pub(super) fn into_model(self) -> ComplianceReader {
        ComplianceReader { id: self.id.value, amqp_user: self.amqp_user.value }
    }
}
