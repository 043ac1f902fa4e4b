use std::time::Duration;

use uuid::Uuid;

use super::*;

fn usage(amount: u32, exceeded: Verdict) -> LimitUse {
    LimitUse {
        key: "[\"a\"]".into(),
        amount: amount.into(),
        max: 100.into(),
        within: Duration::from_secs(60),
        verdict_when_exceeded: exceeded,
        text: "100 in a minute".into(),
    }
}

fn locked(sum: u32) -> LimitUsage {
    let key = ("rule".to_owned(), usage(0, Verdict::Deny).key);
    LimitUsage { sums: Sums { all: BTreeMap::from([(key, sum.into())]), own: BTreeMap::new() } }
}

#[test]
fn a_limit_whose_sum_is_not_locked_admits_nothing() {
    assert!(!LimitUsage::default().admits("rule", &usage(0, Verdict::Deny), None));
    assert!(!locked(0).admits("another", &usage(1, Verdict::RequireApproval), None));
}

#[test]
fn the_actions_of_a_batch_count_together_and_a_denied_one_adds_nothing() {
    let mut limits = locked(50);
    assert!(limits.admits("rule", &usage(30, Verdict::Deny), None));
    assert!(!limits.admits("rule", &usage(30, Verdict::Deny), None));
    assert!(limits.admits("rule", &usage(20, Verdict::Deny), None));
    assert!(!limits.admits("rule", &usage(1, Verdict::Deny), None));
}

#[test]
fn an_action_that_waits_for_approval_beyond_the_limit_counts() {
    let mut limits = locked(90);
    assert!(!limits.admits("rule", &usage(20, Verdict::RequireApproval), None));
    assert!(!limits.admits("rule", &usage(1, Verdict::RequireApproval), None));
}

#[test]
fn a_stored_action_replaces_what_it_added_before() {
    let (mut limits, action) = (locked(90), ActionId(Uuid::from_u128(1)));
    let key = ("rule".to_owned(), usage(0, Verdict::Deny).key);
    limits.sums.own.insert((key, action), 40.into());
    assert!(limits.admits("rule", &usage(50, Verdict::Deny), Some(action)));
    assert!(limits.admits("rule", &usage(50, Verdict::Deny), Some(action)));
    assert!(!limits.admits("rule", &usage(1, Verdict::Deny), None));
}

#[test]
fn a_sum_that_overflows_is_beyond_the_limit() {
    let mut limits = locked(1);
    let mut huge = usage(0, Verdict::Deny);
    huge.amount = "79228162514264337593543950335".parse().unwrap();
    huge.max = huge.amount;
    assert!(!limits.admits("rule", &huge, None));
}
