use std::time::Duration;

use countersign_statistics::switching::{Caps, MostUndetected};

use super::{POLICY, airline, broken, parse};
use crate::{Sources, Switching};

const ALLOWS: &str = "    verdict: allow\n";
const ASKS: &str = "    verdict: allow\n    group: supervisors\n    expires_after: 30m\n";

/// The switching of the first rule that allows, with more than its rates.
fn switching(more: &str) -> Switching {
    let with = format!("{ASKS}    switching: {{limit: 0.02, aoql: 0.02{more}}}\n");
    let ada = "  - {id: ada, amqp_user: auditor-ada,";
    let ann =
        format!("  - {{id: ann, amqp_user: auditor-ann, groups: [service-audit], public_keys: []}}\n{ada}");
    let policy = POLICY.replacen(ALLOWS, &with, 1);
    let directory = airline().directory.replacen(ada, &ann, 1);
    let configuration = parse(&Sources { policy, directory, ..airline() });
    let rules = &configuration.policy.rules;
    let switching = rules.iter().find_map(|rule| configuration.policy.switching(&rule.id));
    switching.unwrap().clone()
}

#[test]
fn what_may_be_late_and_undetected_has_caps() {
    let week = Duration::from_secs(7 * 86_400);
    assert_eq!(switching("").caps, Caps { lag: 100, due: week, at_most: None });
    let stated = switching(", lag: 250, due: 2d, at_most: {errors: 300, rate: 0.01}");
    let at_most = Some(MostUndetected { errors: 300, rate: 0.01 });
    assert_eq!(stated.caps, Caps { lag: 250, due: Duration::from_secs(2 * 86_400), at_most });
    assert_eq!(stated.plan.wanted.lag, 250, "the plan is solved for the lag that is enforced");
    assert_eq!(
        switching(", at_most: {errors: 300}").caps.at_most,
        Some(MostUndetected { rate: 0.0, errors: 300 })
    );
}

#[test]
fn a_cap_that_cannot_be_kept_is_refused() {
    for (more, wanted) in [
        ("lag: 0", "lag is 0; write how many actions may be executed after one whose audit is not settled"),
        ("due: 0s", "due \"0s\" is out of range; write a duration from 1s"),
        ("at_most: {errors: 10}", "cannot be ruled out even if none is ever found; allow at least"),
        ("at_most: {errors: 300, rate: 1.5}", "at_most has errors 300 and rate 1.5"),
        ("at_most: {rate: 0.1}", "missing field"),
    ] {
        let with = format!("{ALLOWS}    switching: {{limit: 0.02, aoql: 0.02, {more}}}\n");
        let problems = broken("policy.yaml", ALLOWS, &with);
        assert!(problems.contains("policy.yaml:26: ") && problems.contains(wanted), "{more}:\n{problems}");
    }
}
