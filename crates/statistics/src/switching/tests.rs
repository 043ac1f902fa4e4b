use super::*;
use crate::simulated::undetected;

const WANTED: Wanted = Wanted { limit: 0.02, pi: 0.1, aoql: 0.02, lag: 400 };

fn plan() -> Plan {
    Plan::with_clearance(WANTED, 110).unwrap()
}

fn audited(wrong: bool) -> SwitchingEvent {
    SwitchingEvent::Audited { wrong }
}

fn reviewed(wrong: bool) -> SwitchingEvent {
    SwitchingEvent::Reviewed { wrong }
}

#[test]
fn enough_clean_approvals_in_a_row_clear_a_class_and_one_error_starts_anew() {
    let plan = plan();
    let mut class = Switch::new(Stage::Pre);
    for _ in 1..plan.clearance {
        class = class.after(&plan, reviewed(false));
    }
    assert_eq!((class.stage, class.after(&plan, reviewed(false)).stage), (Stage::Pre, Stage::Normal));
    assert_eq!(class.after(&plan, reviewed(true)).clean, 0);
}

#[test]
fn clearances_that_fail_again_and_again_stop_everything_until_an_operator_resets_it() {
    let plan = plan();
    let mut class = Switch::new(Stage::Pre);
    let mut reviews = 0;
    while class.stage == Stage::Pre {
        class = class.after(&plan, reviewed(reviews % 10 == 9));
        reviews += 1;
    }
    assert_eq!(class.stage, Stage::Hold);
    assert!(
        reviews >= plan.clearance * FAILED_CLEARANCES && reviews < (plan.clearance + 10) * FAILED_CLEARANCES
    );
    for happened in [reviewed(false), audited(false), SwitchingEvent::Critical] {
        assert_eq!(class.after(&plan, happened), class);
    }
    assert_eq!(class.after(&plan, SwitchingEvent::Reset), Switch::new(Stage::Pre));
}

#[test]
fn errors_tighten_and_then_bring_back_to_approval() {
    let plan = plan();
    let mut class = Switch::new(Stage::Normal);
    let mut stages = vec![];
    for _ in 0..5 {
        class = class.after(&plan, audited(true));
        stages.push(class.stage);
    }
    assert_eq!(stages[..3], [Stage::Normal, Stage::Normal, Stage::Tight]);
    assert_eq!(stages[4], Stage::Pre);
    assert_eq!((plan.pi(Stage::Normal), plan.pi(Stage::Tight)), (0.1, 0.1 * 3.0));
}

#[test]
fn five_clean_lots_end_tight_and_a_dirty_one_counts_anew() {
    let plan = plan();
    let mut class = Switch { level: plan.tighten, ..Switch::new(Stage::Tight) };
    let audits = |class: Switch, n: u32| (0..n).fold(class, |class, _| class.after(&plan, audited(false)));
    assert_eq!(audits(class, LOT * CLEAN_LOTS - 1).stage, Stage::Tight);
    assert_eq!(audits(class, LOT * CLEAN_LOTS), Switch::new(Stage::Normal));
    class = audits(class, LOT * 4 + 10).after(&plan, audited(true));
    assert_eq!(audits(class, LOT * CLEAN_LOTS).stage, Stage::Tight);
    assert_eq!(audits(class, LOT * CLEAN_LOTS + 19).stage, Stage::Normal);
}

#[test]
fn a_confirmed_critical_error_brings_back_to_approval_at_once() {
    for stage in [Stage::Normal, Stage::Tight] {
        assert_eq!(Switch::new(stage).after(&plan(), SwitchingEvent::Critical), Switch::new(Stage::Pre));
    }
}

#[test]
fn a_new_class_starts_where_the_strictest_of_its_siblings_stands() {
    assert_eq!(Switch::beside([]).stage, Stage::Pre);
    assert_eq!(Switch::beside([Stage::Normal, Stage::Tight]).stage, Stage::Tight);
    assert_eq!(Switch::beside([Stage::Normal, Stage::Hold, Stage::Pre]).stage, Stage::Hold);
}

#[test]
fn what_makes_no_sense_or_cannot_be_kept_is_refused() {
    for wanted in [
        Wanted { limit: 0.0, ..WANTED },
        Wanted { limit: 0.4, ..WANTED },
        Wanted { pi: 0.0, ..WANTED },
        Wanted { aoql: 0.0, ..WANTED },
        Wanted { aoql: 1e-12, lag: 1_000_000, ..WANTED },
    ] {
        assert_eq!(Plan::solve(wanted), Err(Unreachable), "{wanted:?}");
    }
}

#[test]
fn more_audits_or_a_shorter_lag_need_a_shorter_clearance() {
    let clearance = |wanted| Plan::solve(wanted).unwrap().clearance;
    let base = clearance(WANTED);
    assert!(clearance(Wanted { pi: 0.2, ..WANTED }) < base);
    assert!(clearance(Wanted { lag: 0, ..WANTED }) < base);
    assert!(clearance(Wanted { aoql: 0.015, ..WANTED }) > base);
}

#[test]
fn in_the_long_run_undetected_errors_stay_within_the_limit_at_every_rate() {
    let plan = Plan::solve(WANTED).unwrap();
    let rates = [0.001, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.2, 0.5];
    let shares = rates.map(|p| undetected(7, &plan, p, 400_000));
    let worst = shares.into_iter().fold(0.0, f64::max);
    assert!(worst <= WANTED.aoql, "{worst} with a clearance of {}", plan.clearance);
    assert!(worst > WANTED.aoql / 2.0, "so loose a limit is not what was solved for: {worst}");
}

#[test]
fn the_chain_and_the_game_agree() {
    let plan = Plan::with_clearance(Wanted { lag: 0, ..WANTED }, 30).unwrap();
    for p in [0.02, 0.04, 0.08] {
        let solved = Cycle::of(&plan, p).undetected_share(p, plan.clearance);
        let played = undetected(8, &plan, p, 2_000_000);
        assert!((played / solved - 1.0).abs() < 0.1, "{p}: {played} played, {solved} solved");
    }
}
