//! Compensating an action at an auditor's request, by an action that the policy evaluates like any other.

use countersign_broker::{lane::Delivery, topology::COMMANDS};
use countersign_core::{
    ids::ActionId,
    message::{CloudEvent, kind},
};
use countersign_runtime::{messages::offer, remediation};
use countersign_store::{
    StoreError, Transaction,
    actions::{self, ActionRecord, LoadDepth},
    compensations,
    generation::Active,
};
use serde_json::{Value, json};

use crate::{
    context::EvaluationContext,
    incoming::{COMPENSATIONS, Compensation},
    intake::propose,
    shared::Router,
};

/// Proposes compensations for the locked actions that an auditor wants undone, and opens a remediation for each that
/// can no longer be undone. Returns the compensating actions, new or known.
///
/// An action is never compensated twice: the proposal bears the id of the action that it undoes.
pub(crate) async fn compensate(
    router: &Router,
    tx: &Transaction,
    active: &Active,
    ids: &[ActionId],
) -> Result<Vec<ActionId>, StoreError> {
    let governed = router.process.governed.under(tx, active).await?;
    let known = compensations::proposed(tx, ids).await?;
    let mut requested = compensations::requested(tx, ids).await?;
    requested.retain(|(action, _)| !known.iter().any(|(undone, _)| undone == action));
    let ids: Vec<ActionId> = requested.iter().map(|(action, _)| *action).collect();
    let records = actions::load(tx, &ids, LoadDepth::Bodies).await?;
    let mut proposals = Vec::with_capacity(records.len());
    for record in &records {
        let auditor =
            requested.iter().find(|(action, _)| *action == record.id).map(|(_, auditor)| auditor.as_str());
        match offer(&governed.configuration.tools, record) {
            Ok(offer) => {
                let body = proposal(record, &offer.tool, offer.arguments, auditor.unwrap_or_default());
                let delivery = Delivery {
                    body,
                    author: None,
                    exchange: COMMANDS.into(),
                    routing_key: "router".into(),
                    copied: false,
                    unreadable: None,
                };
                proposals.push((delivery, Compensation { undone: record.id, agent: &record.agent }));
            }
            Err(why) => {
                let group = &record.status.audit_group;
                remediation::open(tx, &governed.configuration, record.id, group, &why).await?;
            }
        }
    }
    let limits = &router.process.settings.limits;
    let context = EvaluationContext { governed: &governed, limits, now: active.now };
    let mut undoing = propose(router, tx, &context, &proposals).await?;
    undoing.extend(known.into_iter().map(|(_, by)| by));
    Ok(undoing)
}

/// A proposal of the same agent on behalf of the auditor, who therefore may not approve it.
fn proposal(record: &ActionRecord, tool: &str, arguments: Value, auditor: &str) -> Vec<u8> {
    let content: Option<Value> =
        record.content.as_deref().and_then(|content| serde_json::from_slice(content).ok());
    let mut agent =
        content.and_then(|mut content| content.get_mut("agent").map(Value::take)).unwrap_or_default();
    agent["id"] = record.agent.clone().into();
    agent["on_behalf_of"] = auditor.into();
    let data = json!({
        "tool": tool, "arguments": arguments, "agent": agent,
        "reason": format!("an auditor found {} wrong", record.reference),
        "compensates": record.reference,
    });
    let mut event = CloudEvent::new(record.id.0, COMPENSATIONS, kind::PROPOSED, record.now, data);
    event.traceparent.clone_from(&record.traceparent);
    // Strings and JSON always serialise.
    serde_json::to_vec(&event).unwrap_or_default()
}
