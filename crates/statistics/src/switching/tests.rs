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
fn enough_clean_approvals_in_a_row_clear_a_stratum_and_one_error_restarts_the_count() {
    let plan = plan();
    let mut plan_state = SwitchingState::new(PlanState::PreApproval);
    for _ in 1..plan.clearance {
        plan_state = plan_state.after(&plan, reviewed(false));
    }
    assert_eq!(
        (plan_state.state, plan_state.after(&plan, reviewed(false)).state),
        (PlanState::PreApproval, PlanState::Normal)
    );
    assert_eq!(plan_state.after(&plan, reviewed(true)).clean, 0);
}

#[test]
fn repeatedly_failed_clearances_discontinue_a_plan_until_an_operator_resets_it() {
    let plan = plan();
    let mut plan_state = SwitchingState::new(PlanState::PreApproval);
    let mut reviews = 0;
    while plan_state.state == PlanState::PreApproval {
        plan_state = plan_state.after(&plan, reviewed(reviews % 10 == 9));
        reviews += 1;
    }
    assert_eq!(plan_state.state, PlanState::Discontinued);
    assert!(
        reviews >= plan.clearance * FAILED_CLEARANCES && reviews < (plan.clearance + 10) * FAILED_CLEARANCES
    );
    for event in [reviewed(false), audited(false), SwitchingEvent::Critical] {
        assert_eq!(plan_state.after(&plan, event), plan_state);
    }
    assert_eq!(plan_state.after(&plan, SwitchingEvent::Reset), SwitchingState::new(PlanState::PreApproval));
}

#[test]
fn errors_tighten_a_plan_and_then_return_it_to_pre_approval() {
    let plan = plan();
    let mut plan_state = SwitchingState::new(PlanState::Normal);
    let mut states = vec![];
    for _ in 0..5 {
        plan_state = plan_state.after(&plan, audited(true));
        states.push(plan_state.state);
    }
    assert_eq!(states[..3], [PlanState::Normal, PlanState::Normal, PlanState::Tightened]);
    assert_eq!(states[4], PlanState::PreApproval);
    assert_eq!((plan.pi(PlanState::Normal), plan.pi(PlanState::Tightened)), (0.1, 0.1 * 3.0));
}

#[test]
fn five_clean_lots_end_tightened_and_a_dirty_one_restarts_the_count() {
    let plan = plan();
    let mut plan_state = SwitchingState { level: plan.tighten, ..SwitchingState::new(PlanState::Tightened) };
    let audits = |plan_state: SwitchingState, n: u32| {
        (0..n).fold(plan_state, |plan_state, _| plan_state.after(&plan, audited(false)))
    };
    assert_eq!(audits(plan_state, LOT * CLEAN_LOTS - 1).state, PlanState::Tightened);
    assert_eq!(audits(plan_state, LOT * CLEAN_LOTS), SwitchingState::new(PlanState::Normal));
    plan_state = audits(plan_state, LOT * 4 + 10).after(&plan, audited(true));
    assert_eq!(audits(plan_state, LOT * CLEAN_LOTS).state, PlanState::Tightened);
    assert_eq!(audits(plan_state, LOT * CLEAN_LOTS + 19).state, PlanState::Normal);
}

#[test]
fn a_confirmed_critical_error_returns_a_plan_to_pre_approval_at_once() {
    for state in [PlanState::Normal, PlanState::Tightened] {
        assert_eq!(
            SwitchingState::new(state).after(&plan(), SwitchingEvent::Critical),
            SwitchingState::new(PlanState::PreApproval)
        );
    }
}

#[test]
fn a_new_stratum_starts_in_the_state_of_its_strictest_sibling() {
    assert_eq!(SwitchingState::beside([]).state, PlanState::PreApproval);
    assert_eq!(SwitchingState::beside([PlanState::Normal, PlanState::Tightened]).state, PlanState::Tightened);
    assert_eq!(
        SwitchingState::beside([PlanState::Normal, PlanState::Discontinued, PlanState::PreApproval]).state,
        PlanState::Discontinued
    );
}

#[test]
fn an_invalid_or_unreachable_target_is_refused() {
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
    assert!(worst > WANTED.aoql / 2.0, "the clearance is longer than the limit requires: {worst}");
}

#[test]
fn the_chain_and_the_simulation_agree() {
    let plan = Plan::with_clearance(Wanted { lag: 0, ..WANTED }, 30).unwrap();
    for p in [0.02, 0.04, 0.08] {
        let solved = Cycle::of(&plan, p).undetected_share(p, plan.clearance);
        let simulated = undetected(8, &plan, p, 2_000_000);
        assert!((simulated / solved - 1.0).abs() < 0.1, "{p}: {simulated} simulated, {solved} solved");
    }
}

#[test]
fn an_approval_that_an_audit_overturns_ends_the_clean_run() {
    let plan = Plan::with_clearance(WANTED, 5).unwrap();
    let approved = SwitchingEvent::Reviewed { wrong: false };
    let mut state = SwitchingState::new(PlanState::PreApproval);
    for _ in 0..4 {
        state = state.after(&plan, approved);
    }
    state = state.after(&plan, SwitchingEvent::Overturned).after(&plan, approved);
    assert_eq!((state.state, state.clean), (PlanState::PreApproval, 1));
    for _ in 0..4 {
        state = state.after(&plan, approved);
    }
    assert_eq!(state.state, PlanState::Normal);
    // What was approved before counts for nothing any more.
    assert_eq!(state.after(&plan, SwitchingEvent::Overturned), state);
}
