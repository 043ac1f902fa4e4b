//! What concerns sampling plans: reviews, draws and findings.

use countersign_core::{action::State, ids::ActionId, stratum::family_of, verdict::Verdict};
use countersign_statistics::{anytime, switching::SwitchingEvent};
use countersign_store::{actions::ActionRecord, sampling::NewDraw, sampling_plans::CountedDraw};

/// An event that concerns the sampling plan of an action's stratum.
pub(crate) struct SwitchingInput {
    pub(super) stratum: String,
    pub(super) action: ActionId,
    /// The generation under which the action was evaluated.
    pub(super) generation: i64,
    pub(super) what: What,
}

/// What has happened.
pub(super) enum What {
    /// It moves plans.
    Event(SwitchingEvent),
    /// An action that was executed at once has its draw: from now on its family may wait for a finding.
    Drawn(CountedDraw),
}

impl SwitchingInput {
    pub(crate) fn of(record: &ActionRecord, event: SwitchingEvent) -> Option<Self> {
        Self::about(record, What::Event(event))
    }

    fn about(record: &ActionRecord, what: What) -> Option<Self> {
        record.status.plan_state?;
        let (stratum, generation) = (record.status.stratum.clone(), record.status.generation);
        Some(Self { stratum, action: record.id, generation, what })
    }

    /// What an action that has ended contributes: its review, if it needed approval, and otherwise its draw.
    pub(crate) fn ended(record: &ActionRecord, drawn: &NewDraw) -> Option<Self> {
        let state = record.status.state;
        let what = match record.status.verdict {
            Verdict::RequireApproval if state == State::Rejected => {
                What::Event(SwitchingEvent::Reviewed { wrong: true })
            }
            Verdict::RequireApproval if state.executed() => {
                What::Event(SwitchingEvent::Reviewed { wrong: record.edited.is_some() })
            }
            Verdict::Allow if state.executed() => {
                let (pi, selected) = (anytime::rounded(drawn.draw.pi), drawn.draw.selected);
                What::Drawn(CountedDraw { action: record.id, pi, selected })
            }
            _ => return None,
        };
        Self::about(record, what)
    }

    pub(super) fn family(&self) -> &str {
        family_of(&self.stratum)
    }

    /// Whether a drawn audit was settled.
    pub(super) fn is_finding(&self) -> bool {
        matches!(self.what, What::Event(SwitchingEvent::Audited { .. }))
    }
}
