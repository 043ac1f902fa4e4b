use std::time::Duration;

use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::*;

fn usage(amount: u32, exceeded: Verdict) -> LimitUse {
    LimitUse {
        limit: "rule".into(),
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
    assert!(!LimitUsage::default().admits(&usage(0, Verdict::Deny), None));
    let another = LimitUse { limit: "another".into(), ..usage(1, Verdict::RequireApproval) };
    assert!(!locked(0).admits(&another, None));
}

#[test]
fn an_admission_that_is_taken_back_leaves_no_trace() {
    let action = Some(ActionId(Uuid::nil()));
    for (first, second) in [(None, None), (action, None), (None, action), (action, action)] {
        let mut limits = locked(50);
        limits.admits(&usage(20, Verdict::Deny), first);
        let sums = limits.sums.clone();
        let before = limits.before(&usage(25, Verdict::Deny), second);
        limits.admits(&usage(25, Verdict::Deny), second);
        limits.restore(before);
        assert_eq!((&limits.sums.all, &limits.sums.own), (&sums.all, &sums.own));
    }
}

#[test]
fn the_actions_of_a_batch_count_together_and_a_denied_one_adds_nothing() {
    let mut limits = locked(50);
    assert!(limits.admits(&usage(30, Verdict::Deny), None));
    assert!(!limits.admits(&usage(30, Verdict::Deny), None));
    assert!(limits.admits(&usage(20, Verdict::Deny), None));
    assert!(!limits.admits(&usage(1, Verdict::Deny), None));
}

#[test]
fn an_action_that_waits_for_approval_beyond_the_limit_counts() {
    let mut limits = locked(90);
    assert!(!limits.admits(&usage(20, Verdict::RequireApproval), None));
    assert!(!limits.admits(&usage(1, Verdict::RequireApproval), None));
}

#[test]
fn a_stored_action_replaces_what_it_added_before() {
    let (mut limits, action) = (locked(90), ActionId(Uuid::from_u128(1)));
    let key = ("rule".to_owned(), usage(0, Verdict::Deny).key);
    limits.sums.own.insert((key, action), 40.into());
    assert!(limits.admits(&usage(50, Verdict::Deny), Some(action)));
    assert!(limits.admits(&usage(50, Verdict::Deny), Some(action)));
    assert!(!limits.admits(&usage(1, Verdict::Deny), None));
}

#[test]
fn nothing_that_leaves_a_sum_beyond_every_limit_brings_it_back() {
    let largest = Decimal::from(10_u64.pow(18));
    let key = ("rule".to_owned(), usage(0, Verdict::Deny).key);
    for verdict in [Verdict::Deny, Verdict::RequireApproval] {
        let mut limits = locked(0);
        limits.sums.all.insert(key.clone(), BEYOND);
        for id in 0..1_000 {
            let action = ActionId(Uuid::from_u128(id));
            limits.sums.own.insert((key.clone(), action), largest);
            let none = LimitUse { max: largest, ..usage(0, verdict) };
            assert!(!limits.admits(&none, Some(action)), "{id}");
        }
    }
}

#[test]
fn a_sum_that_overflows_is_beyond_the_limit() {
    let mut limits = locked(1);
    for verdict in [Verdict::RequireApproval, Verdict::Deny] {
        let huge = LimitUse { amount: Decimal::MAX, max: Decimal::MAX, ..usage(0, verdict) };
        assert!(!limits.admits(&huge, None));
    }
    assert!(!limits.admits(&LimitUse { max: Decimal::MAX, ..usage(0, Verdict::Deny) }, None));
}

/// The sum after each amount, in exact integers; what is denied adds nothing.
fn exactly(sum: i128, before: i128, amount: i128, max: i128, exceeded: Verdict) -> (bool, i128) {
    let after = sum - before + amount;
    let stays = after <= max || exceeded != Verdict::Deny;
    (after <= max, if stays { after } else { sum - before })
}

proptest! {
    /// A sum that stops at `BEYOND` admits nothing that the exact sum would not.
    #[test]
    fn a_bounded_sum_admits_no_more_than_an_exact_one(
        start in 0_i128..20_000_000_000_000_000_000,
        max in 0_u64..=1_000_000_000_000_000_000,
        actions in prop::collection::vec((0_u64..=1_000_000_000_000_000_000, 0_u64..=1_000_000_000_000_000_000, any::<bool>()), 1..40),
    ) {
        let stored: i128 = actions.iter().map(|(before, ..)| i128::from(*before)).sum();
        let (mut exact, key) = (start + stored, ("rule".to_owned(), usage(0, Verdict::Deny).key));
        let mut limits = locked(0);
        limits.sums.all.insert(key.clone(), Decimal::from_i128_with_scale(exact, 0).min(BEYOND));
        for (id, (before, ..)) in actions.iter().enumerate() {
            limits.sums.own.insert((key.clone(), ActionId(Uuid::from_u128(id as u128))), (*before).into());
        }
        let bounded = exact >= 10_000_000_000_000_000_000;
        for (id, (before, amount, deny)) in actions.into_iter().enumerate() {
            let exceeded = if deny { Verdict::Deny } else { Verdict::RequireApproval };
            let wanted = LimitUse { amount: amount.into(), max: max.into(), ..usage(0, exceeded) };
            let (within, after) = exactly(exact, before.into(), amount.into(), max.into(), exceeded);
            exact = after;
            let admitted = limits.admits(&wanted, Some(ActionId(Uuid::from_u128(id as u128))));
            prop_assert!(within || !admitted);
            prop_assert!(bounded || exact >= 10_000_000_000_000_000_000 || admitted == within);
        }
    }
}
