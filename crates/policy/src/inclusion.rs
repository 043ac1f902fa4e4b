//! Which inclusion probabilities a policy asks for: the sampler draws by them, and a proof checks the stored ones.

use countersign_core::audit::ForcedReason;

use crate::{AuditSpec, Policy};

/// An ended action, as far as its inclusion probability depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The rule that decided on it.
    pub rule: &'a str,
    /// The audit rate that its evaluation led to.
    pub rate: f64,
    /// The score that its rule gave it, if any.
    pub score: Option<f64>,
    /// Whether people have approved it: then the rule may be that of the earlier evaluation that asked them.
    pub approved: bool,
    /// The group that audits it.
    pub group: &'a str,
    /// By how much its sampling plan raises the rate; 1 unless it was tightened.
    pub tighter: f64,
    /// Whether its tool was called.
    pub executed: bool,
}

/// A stored draw, as far as a policy determines it.
#[derive(Clone, Copy, Debug)]
pub struct Inclusion {
    /// π.
    pub pi: f64,
    /// π before a lack of auditors lowered it.
    pub wanted: f64,
    /// Why it was 1 whatever the rule said.
    pub forced: Option<ForcedReason>,
}

impl Policy {
    /// How an executed action is audited: by its evaluation, and otherwise by this policy.
    pub fn inclusion(&self, ended: &Ended<'_>) -> AuditSpec {
        let rate = ended.rate;
        let (floor, at_least) = self
            .audit_spec(ended.rule)
            .map_or((rate, 0), |spec| ((spec.floor * ended.tighter).min(rate), spec.at_least));
        // What the score asks for is in the rate.
        AuditSpec { rate, floor, ceiling: 1.0, at_least, group: ended.group.to_owned() }
    }

    /// Whether this policy can have led to the action's audit rate: where its rule has a score, to the rate that the score asks
    /// for. Otherwise the rate is taken as its evaluation stored it.
    fn rates(&self, ended: &Ended<'_>) -> bool {
        match (self.has_score(ended.rule), ended.score) {
            (false, score) => score.is_none(),
            (true, None) => ended.approved,
            (true, score) => self
                .audit_spec(ended.rule)
                .is_some_and(|spec| equal(ended.rate, (spec.scored(score) * ended.tighter).min(1.0))),
        }
    }

    /// Whether this policy can have led to a draw with these probabilities.
    pub fn asks_for(&self, ended: &Ended<'_>, inclusion: &Inclusion) -> bool {
        let Inclusion { pi, wanted, forced } = *inclusion;
        let audits = self.audits();
        if let Some(reason) = forced {
            let asked = match reason {
                ForcedReason::InDoubt => true,
                ForcedReason::Failed => audits.failed > 0,
                ForcedReason::NewAgent
                | ForcedReason::NewModel
                | ForcedReason::NewPolicy
                | ForcedReason::NewTool => audits.first > 0,
            };
            return asked && equal(wanted, 1.0) && equal(pi, 1.0);
        }
        if !ended.executed {
            return equal(wanted, audits.not_executed) && equal(pi, audits.not_executed);
        }
        let spec = self.inclusion(ended);
        let asked = match spec.at_least {
            0 => equal(wanted, spec.rate),
            // The rate, or more where few actions were expected.
            _ => (spec.rate..=1.0).contains(&wanted),
        };
        // Capacity lowers it, but not below the floor.
        let limited = audits.capacity.contains_key(ended.group);
        self.rates(ended)
            && asked
            && (equal(pi, spec.pi(wanted, 1.0)) || (limited && (spec.floor..=wanted).contains(&pi)))
    }
}

/// Probabilities are stored as they were calculated.
fn equal(one: f64, other: f64) -> bool {
    (one - other).abs() <= f64::EPSILON
}

#[cfg(test)]
mod tests {
    use countersign_core::sources::Sources;

    use super::*;
    use crate::Configuration;

    fn policy(audits: &str, audit: &str) -> Configuration {
        let policy = format!(
            r#"
version: "1"
default: {{verdict: deny, reason: no rule allows this, audit: {{rate: 0.0, group: auditors}}}}
on_error: {{verdict: deny, reason: a rule could not be evaluated, audit: {{rate: 0.0, group: auditors}}}}
audits: {{{audits}}}
rules:
  - id: reads
    when: tool.name == "read"
    verdict: allow
    audit: {{{audit}, group: auditors}}
"#
        );
        let tools = r#"
egress: {allow_hosts: [tools.example.com]}
tools:
  - name: read
    description: Reads
    connector: {http: {url: "https://tools.example.com/read"}}
    arguments: {type: object}
    timeout: 5s
    idempotent: true
"#;
        let directory = r#"
groups: [auditors]
agents: [{id: helpdesk, amqp_user: agent-helpdesk}]
auditors: [{id: ada, amqp_user: auditor-ada, groups: [auditors]}]
"#;
        let sources = Sources { policy, tools: tools.into(), directory: directory.into() };
        Configuration::parse(&sources).unwrap()
    }

    const ENDED: Ended<'static> = Ended {
        rule: "reads",
        rate: 0.1,
        score: None,
        approved: false,
        group: "auditors",
        tighter: 1.0,
        executed: true,
    };

    fn asked(configuration: &Configuration, ended: &Ended<'_>, [wanted, pi]: [f64; 2]) -> bool {
        configuration.policy.asks_for(ended, &Inclusion { pi, wanted, forced: None })
    }

    #[test]
    fn without_a_limit_the_rate_is_what_is_asked_for() {
        let plain = policy("first: 0", "rate: 0.1");
        assert!(asked(&plain, &ENDED, [0.1, 0.1]));
        assert!(!asked(&plain, &ENDED, [0.1, 0.01]) && !asked(&plain, &ENDED, [0.01, 0.01]));
        assert!(!asked(&plain, &ENDED, [1.0, 1.0]), "an audit that nobody asked for");
    }

    #[test]
    fn capacity_lowers_it_down_to_the_floor() {
        let limited = policy("capacity: {auditors: 10}", "rate: 0.1, floor: 0.05");
        assert!(asked(&limited, &ENDED, [0.1, 0.07]) && asked(&limited, &ENDED, [0.1, 0.05]));
        assert!(!asked(&limited, &ENDED, [0.1, 0.04]) && !asked(&limited, &ENDED, [0.1, 0.2]));
        let tightened = Ended { rate: 0.3, tighter: 3.0, ..ENDED };
        assert!(asked(&limited, &tightened, [0.3, 0.2]) && !asked(&limited, &tightened, [0.3, 0.1]));
    }

    #[test]
    fn a_wanted_number_raises_it() {
        let few = policy("first: 0", "rate: 0.1, at_least: 50");
        assert!(asked(&few, &ENDED, [0.4, 0.4]) && asked(&few, &ENDED, [1.0, 1.0]));
        assert!(!asked(&few, &ENDED, [0.05, 0.05]) && !asked(&few, &ENDED, [0.4, 0.1]));
    }

    #[test]
    fn a_score_leads_to_one_rate_and_is_missing_only_where_people_were_asked_by_another_rule() {
        let scored =
            policy("first: 0", "rate: 0.1, ceiling: 0.5, score: 'agent.id == \"helpdesk\" ? 0.2 : 0.0'");
        let of = |score, rate| Ended { score, rate, ..ENDED };
        // 0.5 · 2√(0.2 · 0.8) = 0.4 is rounded up to 0.5.
        assert!(asked(&scored, &of(Some(0.2), 0.5), [0.5, 0.5]));
        assert!(!asked(&scored, &of(Some(0.2), 0.1), [0.1, 0.1]), "the score asks for more");
        assert!(!asked(&scored, &of(Some(0.0), 0.5), [0.5, 0.5]), "the score asks for less");
        assert!(!asked(&scored, &of(None, 0.1), [0.1, 0.1]), "its score is gone");
        assert!(asked(&scored, &Ended { approved: true, ..of(None, 0.1) }, [0.1, 0.1]));
        assert!(asked(&scored, &Ended { tighter: 3.0, ..of(Some(0.0), 0.1 * 3.0) }, [0.1 * 3.0, 0.1 * 3.0]));
        let plain = policy("first: 0", "rate: 0.1");
        assert!(!asked(&plain, &of(Some(0.2), 0.5), [0.5, 0.5]), "a score that nobody asked for");
    }

    #[test]
    fn what_was_refused_and_what_was_forced_have_their_own() {
        let refused = Ended { executed: false, ..ENDED };
        let half = policy("not_executed: 0.5, failed: 10", "rate: 0.1");
        assert!(asked(&half, &refused, [0.5, 0.5]) && !asked(&half, &refused, [0.1, 0.1]));
        let forced = |reason, pi| {
            let inclusion = Inclusion { pi, wanted: 1.0, forced: Some(reason) };
            half.policy.asks_for(&ENDED, &inclusion)
        };
        assert!(forced(ForcedReason::InDoubt, 1.0) && forced(ForcedReason::Failed, 1.0));
        assert!(!forced(ForcedReason::NewAgent, 1.0) && !forced(ForcedReason::Failed, 0.5));
    }
}
