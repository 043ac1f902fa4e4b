//! `policy.yaml`.

use std::collections::BTreeMap;

use countersign_core::verdict::Verdict;
use serde::Deserialize;
use serde_saphyr::Spanned;
use sha2::{Digest, Sha256};

use super::{
    audit,
    reader::Reader,
    references::References,
    rule::Rule,
    yaml::{self, line},
};
use crate::{
    hex::hex,
    policy::{DEFAULT, INTAKE, ON_ERROR, Policy},
    problem::{POLICY_FILE, Problem},
};

const MAX_RULES: usize = 500;
const MAX_VERSION_BYTES: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Spanned<String>,
    author: Option<Spanned<String>>,
    audits: Option<audit::Audits>,
    default: Spanned<Rule>,
    on_error: Spanned<Rule>,
    rules: Vec<Spanned<Rule>>,
}

/// Parses the text and checks everything that needs no other file. The references are checked once those are parsed.
pub(crate) fn parse(text: &str) -> Result<(Policy, References), Vec<Problem>> {
    let document: Document = yaml::read(POLICY_FILE, text)?;
    let mut reader = Reader::new();
    check_version(&mut reader, &document.version);
    if let Some(author) = &document.author {
        reader.problems.id("a person", author);
    }
    check_on_error(&mut reader, &document.on_error.value);
    check_rule_ids(&mut reader, &document.rules);
    let default = document.default.value.into_fallback(&mut reader);
    let on_error = document.on_error.value.into_fallback(&mut reader);
    let audits = document.audits.map(|audits| audits.into_model(&mut reader)).unwrap_or_default();
    let rules = document.rules.into_iter().map(|rule| {
        let at = line(&rule);
        rule.value.into_model(&mut reader, at)
    });
    let rules = rules.collect::<Vec<_>>();
    reader.problems.within_cost();
    let Reader { problems, mut references, exclusions, .. } = reader;
    if audits.twice > 0.0 {
        // A third auditor decides where two disagree.
        references.require_third_auditor();
    }
    let (Some(default), Some(on_error), Some(rules)) = (default, on_error, rules.into_iter().collect())
    else {
        return problems.into_error();
    };
    let digest = format!("sha256:{}", hex(&Sha256::digest(text.as_bytes())));
    let policy = Policy {
        version: document.version.value,
        author: document.author.map(|author| author.value),
        digest,
        text: text.to_owned(),
        audits,
        rules,
        default,
        on_error,
        exclusions,
    };
    problems.unless_found((policy, references))
}

fn check_version(reader: &mut Reader, version: &Spanned<String>) {
    let bytes = version.value.len();
    if !(1..=MAX_VERSION_BYTES).contains(&bytes) {
        let message = format!("the version {:?} has {bytes} bytes", version.value);
        let help = format!("write 1 to {MAX_VERSION_BYTES} bytes, such as \"2026-11-01\"");
        reader.problems.add(line(version), message, help);
    }
}

fn check_on_error(reader: &mut Reader, on_error: &Rule) {
    if on_error.verdict.value == Verdict::Allow {
        reader.problems.add(
            line(&on_error.verdict),
            "on_error allows actions for which a rule could not be evaluated",
            "write require_approval or deny",
        );
    }
}

fn check_rule_ids(reader: &mut Reader, rules: &[Spanned<Rule>]) {
    if let Some(rule) = rules.get(MAX_RULES) {
        let message = format!("the policy has {} rules", rules.len());
        reader.problems.add(line(rule), message, format!("write at most {MAX_RULES} rules"));
    }
    let mut seen = BTreeMap::new();
    for id in rules.iter().filter_map(|rule| rule.value.id.as_ref()) {
        reader.problems.id("a rule", id);
        if [DEFAULT, ON_ERROR, INTAKE].contains(&id.value.as_str()) {
            let message = format!("the rule id {:?} is reserved", id.value);
            let help = "choose another id: actions that no rule decides are recorded under this one";
            reader.problems.add(line(id), message, help);
        }
        if let Some(first) = seen.insert(id.value.as_str(), line(id)) {
            let message = format!("the rule id {:?} is already used on line {first}", id.value);
            reader.problems.add(line(id), message, "give each rule a unique id");
        }
    }
}
