//! Proposals on their way in, of agents and of Countersign itself.

use countersign_core::{ids::ActionId, message::Failure};

use crate::inbound::Inbound;

/// The source of what Countersign itself proposes: to undo an action, under that action's id.
pub(crate) const COMPENSATIONS: &str = "/countersign/compensations";

/// What a proposal of Countersign itself undoes. An agent's own proposals undo nothing.
#[derive(Clone, Copy)]
pub(crate) struct Compensation<'a> {
    /// The action that an auditor wants undone.
    pub(crate) undone: ActionId,
    /// The agent whose action it is.
    pub(crate) agent: &'a str,
}

/// A proposal on its way in.
pub(crate) struct Incoming<'a> {
    pub(crate) inbound: Inbound<'a>,
    /// What it undoes, if Countersign itself proposes it.
    pub(crate) compensation: Option<Compensation<'a>>,
    /// Why it is denied before it is evaluated.
    pub(crate) refused: Option<Failure>,
}

impl<'a> Incoming<'a> {
    /// An agent's proposal, to be evaluated.
    pub(crate) fn of(inbound: Inbound<'a>) -> Self {
        Self { inbound, compensation: None, refused: None }
    }
}
