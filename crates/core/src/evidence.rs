//! Evidence: what a transaction records of what it did, one typed event per fact.
//!
//! A worker writes an [`Event`] in the transaction that it describes. The row keeps the event's [`Kind`] and its body as
//! JSON; the ledger records the SHA-256 of that text, so a body's bytes never change: object keys are sorted, and a member
//! that is absent stays absent. People appear by pseudonym, content by salted digest; free text stays out, except in
//! [`FindingRefused`], [`RemediationOpened`] and [`SamplingPlanChanged`], where Countersign itself wrote it.

mod action;
mod operation;
mod review;
mod sampling;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use self::{
    action::{
        ActingAgent, ActionClaimed, ActionCompleted, ActionEvaluated, ActionLink, ActionLinkedBy,
        ActionResolved, ApprovalEscalated, CancellationRefused, CompensationRequested, LimitNoted,
        OpenedApproval, PermitIssued, PermitRefused, ProposalRefused, ResultLate,
    },
    operation::{
        ConfigApplied, HoldPlaced, HoldReleased, LegalHoldNoted, MessageQuarantined, MessageReplayed,
        PayloadErased, QuarantineErased, RemediationClosed, RemediationOpened,
    },
    review::{
        AuditSettled, DecisionNoted, DecisionRecorded, DecisionRefused, FindingNoted, FindingRecorded,
        FindingRefused, ReviewSender, Signature, SignedWith,
    },
    sampling::{
        ActionSampled, EpochClosed, EpochOpened, GoldSettled, LookbackOpened, OpenedAudit, PlanCounters,
        PlanCounts, RatesLowered, SamplingPlanChanged, SamplingPlanOpened, SamplingPlanPinned, SelectedAudit,
    },
};

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident($body:ty) $kind:literal;)+) => {
        /// The kind of event that a row of evidence describes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$name),+];

            /// The word in `evidence.kind`, and the `type` of the ledger's entry.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$name => $kind),+ }
            }
        }

        /// One event with its body.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $($(#[doc = $doc])+ $name($body),)+
        }

        impl Event {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Event::$name(_) => Kind::$name),+ }
            }

            /// The body with sorted keys, as it is stored.
            pub fn body(&self) -> Value {
                // Strings, numbers and times always serialise.
                match self { $(Event::$name(body) => serde_json::to_value(body).unwrap_or_default()),+ }
            }

            /// Reads a stored event.
            ///
            /// # Errors
            /// Where the body lacks a member that this kind has, or has one of another type.
            pub fn decode(kind: Kind, body: &str) -> Result<Self, serde_json::Error> {
                match kind { $(Kind::$name => serde_json::from_str(body).map(Event::$name)),+ }
            }
        }
    };
}

events! {
    /// The policy evaluated an action: at intake, on a new generation, at a decision, or before a retry.
    ActionEvaluated(Box<ActionEvaluated>) "action.evaluated";
    /// The action supersedes an earlier one of its agent.
    ActionSupersedes(ActionLink) "action.supersedes";
    /// A later action supersedes this one.
    ActionSuperseded(ActionLinkedBy) "action.superseded";
    /// The action undoes another.
    ActionCompensates(ActionLink) "action.compensates";
    /// An action that would undo this one was proposed.
    ActionCompensationProposed(ActionLinkedBy) "action.compensation_proposed";
    /// The action that undoes this one succeeded.
    ActionCompensated(ActionLinkedBy) "action.compensated";
    /// An executor claimed the action under a permit.
    ActionClaimed(ActionClaimed) "action.claimed";
    /// The call of the tool ended.
    ActionCompleted(ActionCompleted) "action.completed";
    /// An auditor resolved what an action in doubt did.
    ActionResolved(ActionResolved) "action.resolved";
    /// The sampler drew whether the action is audited.
    ActionSampled(ActionSampled) "action.sampled";
    /// A result arrived after the claim that it belongs to had been given up.
    ResultLate(ResultLate) "result.late";
    /// An agent proposed another body under an id that it had used.
    ProposalRefused(ProposalRefused) "proposal.refused";
    /// A cancellation came too late.
    CancellationRefused(CancellationRefused) "cancellation.refused";
    /// A permit, or a pack of them, authorised nothing.
    PermitRefused(PermitRefused) "permit.refused";
    /// Another group may decide an open request as well.
    ApprovalEscalated(ApprovalEscalated) "approval.escalated";
    /// A reviewer's decision was applied.
    DecisionRecorded(DecisionRecorded) "decision.recorded";
    /// A decision repeated one that had been applied.
    DecisionRepeated(DecisionRecorded) "decision.repeated";
    /// A decision was refused.
    DecisionRefused(DecisionRefused) "decision.refused";
    /// An auditor's finding was applied.
    FindingRecorded(FindingRecorded) "finding.recorded";
    /// A finding repeated one that had been applied.
    FindingRepeated(FindingRecorded) "finding.repeated";
    /// A finding was refused.
    FindingRefused(FindingRefused) "finding.refused";
    /// The findings so far settled an audit.
    AuditSettled(AuditSettled) "audit.settled";
    /// A sampling plan returned to pre-approval, and one of its last actions is audited.
    AuditLookbackOpened(LookbackOpened) "audit.lookback_opened";
    /// Auditors judged a gold item: an audit of which the right finding is known.
    GoldSettled(GoldSettled) "gold.settled";
    /// An auditor requested that the action be undone.
    CompensationRequested(CompensationRequested) "compensation.requested";
    /// A remediation task was opened.
    RemediationOpened(RemediationOpened) "remediation.opened";
    /// A remediation task was closed.
    RemediationClosed(RemediationClosed) "remediation.closed";
    /// A sampling epoch opened, with the commitment to its key.
    EpochOpened(EpochOpened) "epoch.opened";
    /// The key of a sampling epoch was revealed.
    EpochClosed(EpochClosed) "epoch.closed";
    /// A group's capacity lowered its audit rates in an epoch.
    RatesLowered(RatesLowered) "rates.lowered";
    /// A stratum got a sampling plan.
    SamplingPlanOpened(SamplingPlanOpened) "sampling_plan.opened";
    /// A sampling plan changed its state.
    SamplingPlanChanged(SamplingPlanChanged) "sampling_plan.changed";
    /// An operator pinned a sampling plan to its state.
    SamplingPlanPinned(SamplingPlanPinned) "sampling_plan.pinned";
    /// An operator unpinned a sampling plan.
    SamplingPlanUnpinned(SamplingPlanPinned) "sampling_plan.unpinned";
    /// An operator applied a configuration.
    ConfigApplied(ConfigApplied) "config.applied";
    /// An operator placed a hold.
    HoldPlaced(HoldPlaced) "hold.placed";
    /// Another operator released a hold.
    HoldReleased(HoldReleased) "hold.released";
    /// A legal hold was placed.
    LegalHoldPlaced(LegalHoldNoted) "legal_hold.placed";
    /// A legal hold was released.
    LegalHoldReleased(LegalHoldNoted) "legal_hold.released";
    /// Parts of what is stored of an action were erased.
    PayloadErased(PayloadErased) "payload.erased";
    /// Quarantined messages were erased.
    QuarantineErased(QuarantineErased) "quarantine.erased";
    /// A message was quarantined.
    MessageQuarantined(MessageQuarantined) "message.quarantined";
    /// A quarantined message was replayed.
    MessageReplayed(MessageReplayed) "message.replayed";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is no kind of evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kind of evidence that this version writes")]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Kind::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownKind(text.into()))
    }
}

/// Tells a member that is `null` from one that is absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests;
