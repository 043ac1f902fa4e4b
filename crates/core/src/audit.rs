//! Why an action is audited whatever its rate, and when an audit is settled: by one auditor, by two who work independently,
//! or by a third.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::message::{Finding, Severity};

/// Why an action's inclusion probability is 1 whatever its rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForcedReason {
    /// Nobody knows whether it took effect.
    InDoubt,
    /// It is among the first of an agent's version.
    NewAgent,
    /// It is among the first of a model.
    NewModel,
    /// It is among the first under a version of the policy.
    NewPolicy,
    /// It is among the first of a tool's version.
    NewTool,
    /// It failed.
    Failed,
}

impl ForcedReason {
    /// The word in evidence and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InDoubt => "in_doubt",
            Self::NewAgent => "new_agent",
            Self::NewModel => "new_model",
            Self::NewPolicy => "new_policy",
            Self::NewTool => "new_tool",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for ForcedReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all =
            [Self::InDoubt, Self::NewAgent, Self::NewModel, Self::NewPolicy, Self::NewTool, Self::Failed];
        let known = all.into_iter().find(|reason| reason.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no reason to audit an action whatever its rate"))
    }
}

/// The finding of one auditor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// The finding.
    pub finding: Finding,
    /// How bad it is, if wrong.
    pub severity: Option<Severity>,
}

/// The settled result of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// `correct` or `wrong`.
    pub finding: Finding,
    /// How bad it is, if wrong; critical only if two auditors found it so.
    pub severity: Option<Severity>,
}

/// The result of the opinions so far, in order of arrival; `None` if another auditor is needed.
///
/// One opinion is enough, two if the audit is made `twice` or an auditor finds a critical error; if they
/// disagree, a third settles it. The opinion of an auditor who is unsure does not count.
pub fn settle(opinions: &[Opinion], twice: bool) -> Option<Settled> {
    let sure: Vec<&Opinion> = opinions.iter().filter(|opinion| opinion.finding != Finding::Unsure).collect();
    let wrong: Vec<&Opinion> =
        sure.iter().copied().filter(|opinion| opinion.finding == Finding::Wrong).collect();
    let (against, in_favour) = (wrong.len(), sure.len() - wrong.len());
    let critical = wrong.iter().filter(|opinion| opinion.severity == Some(Severity::Critical)).count();
    let wanted = if twice || critical > 0 { 2 } else { 1 };
    if against.max(in_favour) < wanted {
        return None;
    }
    if in_favour > against {
        return Some(Settled { finding: Finding::Correct, severity: None });
    }
    let severity = match critical {
        0 | 1 => wrong.iter().filter_map(|one| one.severity).filter(|one| *one < Severity::Critical).max(),
        _ => Some(Severity::Critical),
    };
    Some(Settled { finding: Finding::Wrong, severity })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORRECT: Opinion = Opinion { finding: Finding::Correct, severity: None };
    const UNSURE: Opinion = Opinion { finding: Finding::Unsure, severity: None };

    fn wrong(severity: Severity) -> Opinion {
        Opinion { finding: Finding::Wrong, severity: Some(severity) }
    }

    fn found(opinions: &[Opinion], twice: bool) -> Option<(Finding, Option<Severity>)> {
        settle(opinions, twice).map(|settled| (settled.finding, settled.severity))
    }

    #[test]
    fn one_sure_opinion_is_enough() {
        assert_eq!(found(&[], false), None);
        assert_eq!(found(&[UNSURE], false), None);
        assert_eq!(found(&[UNSURE, CORRECT], false), Some((Finding::Correct, None)));
        let minor = wrong(Severity::Minor);
        assert_eq!(found(&[minor], false), Some((Finding::Wrong, Some(Severity::Minor))));
    }

    #[test]
    fn two_auditors_must_agree_or_a_third_settles_the_audit() {
        let major = wrong(Severity::Major);
        assert_eq!(found(&[CORRECT], true), None);
        assert_eq!(found(&[CORRECT, UNSURE], true), None);
        assert_eq!(found(&[CORRECT, CORRECT], true), Some((Finding::Correct, None)));
        assert_eq!(found(&[CORRECT, major], true), None);
        assert_eq!(found(&[CORRECT, major, CORRECT], true), Some((Finding::Correct, None)));
        assert_eq!(found(&[CORRECT, major, major], true), Some((Finding::Wrong, Some(Severity::Major))));
    }

    #[test]
    fn an_error_is_critical_only_if_two_auditors_found_it_so() {
        let (major, critical) = (wrong(Severity::Major), wrong(Severity::Critical));
        assert_eq!(found(&[critical], false), None);
        assert_eq!(found(&[critical, critical], false), Some((Finding::Wrong, Some(Severity::Critical))));
        assert_eq!(found(&[critical, major], false), Some((Finding::Wrong, Some(Severity::Major))));
        assert_eq!(found(&[critical, CORRECT], false), None);
        assert_eq!(found(&[critical, CORRECT, CORRECT], false), Some((Finding::Correct, None)));
    }
}
