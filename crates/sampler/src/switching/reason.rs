//! Why plans move, with the numbers: for evidence, the report and `countersign switching list`.

use std::time::Duration;

use countersign_policy::Switching;
use countersign_statistics::switching::{
    Exceeded, FAILED_CLEARANCES, Plan, PlanState, SwitchingEvent, Unsettled,
};
use countersign_store::sampling_plans::PlanRecord;
use humantime::format_duration;

/// Why a plan moved by its own record.
pub(super) fn own(plan: &Plan, record: &PlanRecord, event: SwitchingEvent, to: PlanState) -> String {
    match (record.switching.state, event, to) {
        (_, SwitchingEvent::Critical, _) => "a second auditor confirmed a critical error".into(),
        (PlanState::PreApproval, _, PlanState::Normal) => {
            format!("{} approvals in a row without an error", plan.clearance)
        }
        (PlanState::PreApproval, _, _) => format!("{FAILED_CLEARANCES} clearances failed"),
        (_, _, PlanState::Tightened) => format!("the CUSUM of audits passed ln 20 (level {})", plan.tighten),
        (_, _, PlanState::PreApproval) => format!("the CUSUM of audits passed ln 100 (level {})", plan.back),
        (_, _, PlanState::Normal) => "five clean lots of 30 audits in a row".into(),
        _ => "an operator".into(),
    }
}

/// Why all plans of a family moved by what they have shown together.
pub(super) fn joint(plan: &Plan, event: SwitchingEvent, to: PlanState) -> String {
    match (event, to) {
        (SwitchingEvent::Critical, _) => "a second auditor confirmed a critical error".into(),
        (_, PlanState::Tightened) => {
            format!("the CUSUM of the audits of all versions and bands passed ln 20 (level {})", plan.tighten)
        }
        (_, PlanState::PreApproval) => {
            format!("the CUSUM of the audits of all versions and bands passed ln 100 (level {})", plan.back)
        }
        _ => format!("{FAILED_CLEARANCES} clearances failed, of all versions and bands together"),
    }
}

/// Why all plans of a family returned to pre-approval because of what is not known.
pub(super) fn cap(rule: &Switching, exceeded: Exceeded) -> String {
    match exceeded {
        Exceeded::Lag(Unsettled { behind, .. }) => format!(
            "{behind} actions were executed after one whose audit is not settled; the lag is {}",
            rule.caps.lag
        ),
        Exceeded::Due(Unsettled { age, .. }) => format!(
            "an audit has not been settled for {}; it was due after {}",
            format_duration(Duration::from_secs(age.as_secs())),
            format_duration(rule.caps.due)
        ),
        Exceeded::AtMost { undetected, allowed } => format!(
            "as many as {undetected} errors may be undetected (95 % confidence at any time); {allowed} are allowed"
        ),
    }
}
