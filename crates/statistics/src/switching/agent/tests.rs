use proptest::prelude::*;

use super::*;
use crate::switching::{FAILED_CLEARANCES, Wanted};

const VERSIONS: usize = 3;

fn plan() -> Plan {
    Plan::with_clearance(Wanted { limit: 0.1, pi: 0.5, aoql: 0.1, lag: 10 }, 4).unwrap()
}

/// An agent with its strata, as the sampler keeps them.
#[derive(Clone, Debug)]
struct Agent {
    counters: AgentCounters,
    strata: Vec<SwitchingState>,
}

impl Agent {
    fn new(states: &[PlanState]) -> Self {
        Self {
            counters: AgentCounters::default(),
            strata: states.iter().copied().map(SwitchingState::new).collect(),
        }
    }

    /// Applies an event of one stratum. Returns the state into which it puts all of them, if it does.
    fn apply(&mut self, of: usize, event: SwitchingEvent) -> Option<PlanState> {
        let plan = plan();
        let before = self.strata[of];
        self.strata[of] = before.after(&plan, event);
        let (counters, together) = self.counters.after(&plan, event);
        self.counters = counters;
        let own = (self.strata[of].state > before.state).then_some(self.strata[of].state);
        let to = own.max(together)?;
        self.counters = self.counters.demoted(to);
        for state in &mut self.strata {
            *state = state.demoted(to);
        }
        Some(to)
    }

    fn states(&self) -> Vec<PlanState> {
        self.strata.iter().map(|stratum| stratum.state).collect()
    }
}

#[test]
fn a_critical_error_of_one_version_sends_every_version_back_to_approval() {
    use PlanState::{Discontinued, Normal, PreApproval, Tightened};
    let mut agent = Agent::new(&[Normal, Normal, Tightened, PreApproval, Discontinued]);
    assert_eq!(agent.apply(0, SwitchingEvent::Critical), Some(PreApproval));
    assert_eq!(agent.states(), [PreApproval, PreApproval, PreApproval, PreApproval, Discontinued]);
}

#[test]
fn errors_add_up_across_versions_of_which_none_has_enough_alone() {
    let mut agent = Agent::new(&[PlanState::Normal; 8]);
    let moves: Vec<_> = (0..8).map(|of| agent.apply(of, SwitchingEvent::Audited { wrong: true })).collect();
    let tightened = moves.iter().position(|moved| *moved == Some(PlanState::Tightened)).unwrap();
    let back = moves.iter().position(|moved| *moved == Some(PlanState::PreApproval)).unwrap();
    assert!(tightened < back && back < 7, "{moves:?}");
    assert_eq!(Agent::new(&[PlanState::Normal; 2]).apply(0, SwitchingEvent::Audited { wrong: true }), None);
}

#[test]
fn failed_clearances_add_up_across_versions() {
    let mut agent = Agent::new(&[PlanState::PreApproval; 50]);
    let plan = plan();
    let reviews = (plan.clearance * FAILED_CLEARANCES) as usize;
    let discontinued = (0..reviews).find_map(|of| agent.apply(of, SwitchingEvent::Reviewed { wrong: true }));
    assert_eq!(discontinued, Some(PlanState::Discontinued));
    assert!(agent.states().iter().all(|state| *state == PlanState::Discontinued));
}

#[test]
fn a_demotion_restarts_clean_runs_so_that_no_version_is_kept_in_reserve() {
    let mut agent = Agent::new(&[PlanState::PreApproval, PlanState::Normal]);
    for _ in 1..plan().clearance {
        agent.apply(0, SwitchingEvent::Reviewed { wrong: false });
    }
    agent.apply(1, SwitchingEvent::Critical);
    agent.apply(0, SwitchingEvent::Reviewed { wrong: false });
    assert_eq!(agent.states(), [PlanState::PreApproval; 2]);
}

#[test]
fn a_clearance_of_one_version_clears_no_other() {
    let mut agent = Agent::new(&[PlanState::PreApproval; 2]);
    for _ in 0..plan().clearance {
        agent.apply(0, SwitchingEvent::Reviewed { wrong: false });
    }
    assert_eq!(agent.states(), [PlanState::Normal, PlanState::PreApproval]);
}

fn event() -> impl Strategy<Value = SwitchingEvent> {
    prop_oneof![
        8 => prop::bool::weighted(0.2).prop_map(|wrong| SwitchingEvent::Reviewed { wrong }),
        8 => prop::bool::weighted(0.3).prop_map(|wrong| SwitchingEvent::Audited { wrong }),
        1 => Just(SwitchingEvent::Critical),
    ]
}

proptest! {
    /// Whatever names an agent uses in whatever order: what executes at once has been cleared by reviews of its own, without
    /// an error in a row, since the agent last went back to approval.
    #[test]
    fn nothing_executes_at_once_but_by_a_clean_record_of_its_own(
        events in prop::collection::vec((0..VERSIONS, event()), 1..200),
    ) {
        let mut agent = Agent::new(&[PlanState::PreApproval; VERSIONS]);
        let mut clean = [0_u32; VERSIONS];
        let mut cleared = [false; VERSIONS];
        for (of, event) in events {
            if let SwitchingEvent::Reviewed { wrong } = event {
                clean[of] = if wrong { 0 } else { clean[of] + 1 };
                cleared[of] |= clean[of] >= plan().clearance;
            }
            if agent.apply(of, event).is_some_and(|to| to >= PlanState::PreApproval) {
                (clean, cleared) = ([0; VERSIONS], [false; VERSIONS]);
            }
            for (state, cleared) in agent.states().into_iter().zip(cleared) {
                prop_assert!(state >= PlanState::PreApproval || cleared);
            }
        }
    }

    /// A demotion leaves no stratum looser than it demands, and an agent that uses one name only is treated as if it had no
    /// other counters.
    #[test]
    fn a_demotion_moves_all_strata_and_one_name_has_one_record(
        events in prop::collection::vec((0..VERSIONS, event()), 1..200),
    ) {
        let mut agent = Agent::new(&[PlanState::Normal; VERSIONS]);
        let mut only = Agent::new(&[PlanState::PreApproval]);
        let mut alone = SwitchingState::new(PlanState::PreApproval);
        for (of, event) in events {
            if let Some(to) = agent.apply(of, event) {
                prop_assert!(agent.states().into_iter().all(|state| state >= to));
            }
            // A stratum's reviews are those of actions that needed approval, its audits of those that did not.
            let waits = alone.state >= PlanState::PreApproval;
            if waits == matches!(event, SwitchingEvent::Reviewed { .. }) {
                only.apply(0, event);
                alone = alone.after(&plan(), event);
                prop_assert_eq!(only.strata[0], alone);
            }
        }
    }
}
