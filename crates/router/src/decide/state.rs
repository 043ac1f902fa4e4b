//! What a batch of decisions shares while it is applied.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use countersign_core::{ids::ActionId, message::DecisionData};
use countersign_policy::Member;

use crate::{
    context::EvaluationContext, limit_usage::LimitUsage, reevaluate::StoredEvaluation, write_set::WriteSet,
};

/// A decision, and who signed it.
#[derive(Clone, Copy)]
pub(super) struct SignedDecision<'a> {
    pub(super) data: &'a DecisionData,
    pub(super) reviewer: &'a Member,
    /// The id of the event that carried it.
    pub(super) event: &'a str,
    /// The key that signed it.
    pub(super) kid: &'a str,
    /// When it was signed, as the signed statement says.
    pub(super) signed_at: DateTime<Utc>,
}

/// A batch of decisions while it is applied.
pub(super) struct BatchState<'a> {
    pub(super) context: EvaluationContext<'a>,
    pub(super) write_set: WriteSet,
    pub(super) limit_usage: LimitUsage,
    /// Each action's one evaluation in this transaction, once it has been made; after an edit, that of the edited
    /// action.
    pub(super) evaluations: HashMap<ActionId, StoredEvaluation<'a>>,
}
