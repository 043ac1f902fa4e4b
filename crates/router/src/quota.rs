//! Quotas: which of a batch's proposals are processed now, which wait for their turn, and which are denied.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use countersign_core::{
    ids::ActionRef,
    message::Failure,
    quota::{OverQuota, Quotas, Usage},
    refusal::Code,
};
use countersign_runtime::author;
use countersign_store::{
    StoreError, Transaction, actions,
    waiting::{self, NewWaiting},
};

use crate::{
    context::EvaluationContext,
    inbound::{Inbound, Message},
    incoming::Incoming,
};

/// What becomes of a batch.
pub(crate) struct Admission<'a> {
    /// What is processed now. The rest waits.
    pub(crate) incoming: Vec<Incoming<'a>>,
    /// How much of its rate each agent uses up, in seconds.
    pub(crate) rates: BTreeMap<String, f64>,
    /// For how long nothing more is taken from the queues of agents that are over their quotas, by exchange.
    pub(crate) pauses: BTreeMap<String, Duration>,
}

/// The longest pause for each proposal that is over its agent's quotas. To store a flood as fast as it comes would take the
/// machine from others.
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// An agent's part of a batch.
struct Share {
    quotas: Quotas,
    usage: Usage,
    room: u64,
    admitted: u64,
}

impl Share {
    /// Whether one more is processed now. What waits has its turn first.
    fn admits(&mut self) -> bool {
        let admits = self.usage.waiting == 0 && self.admitted < self.room;
        self.admitted += u64::from(admits);
        admits
    }

    /// Whether one more may wait.
    fn waits(&mut self) -> bool {
        let waits =
            self.quotas.exceeded == OverQuota::Wait && self.usage.waiting < u64::from(self.quotas.waiting);
        self.usage.waiting += u64::from(waits);
        waits
    }

    /// How long its queue is left alone for each proposal that is over the quotas.
    fn pause(&self) -> Duration {
        Duration::try_from_secs_f64(self.quotas.seconds_for(1)).unwrap_or(PAUSE_MAX).min(PAUSE_MAX)
    }

    fn refusal(&self, context: &EvaluationContext<'_>) -> Failure {
        let retry_at = self.quotas.retry_at(&self.usage, context.now);
        let message = "the agent is over its quotas: propose it again under a new id, not before `retry_at`";
        Failure { retry_at: Some(retry_at), ..Failure::new(Code::RateLimited, message) }
    }
}

/// An agent with more in a batch than this part of its room is counted under a lock. What others do at the same time is
/// not seen, so that usually nobody waits: with as many lanes they can be over a quota by a batch each.
const UNLOCKED: u64 = 8;

/// Applies the agents' quotas to a batch of proposals. Stores those that wait.
pub(crate) async fn admit<'a>(
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    usual: Quotas,
    batch: Vec<Inbound<'a>>,
) -> Result<Admission<'a>, StoreError> {
    let directory = &context.configuration().directory;
    let of = |inbound: &Inbound<'_>| {
        let user = author::of(inbound.delivery).ok()?;
        directory.agent_of_user(user)
    };
    let mut named = BTreeMap::new();
    for agent in batch.iter().filter_map(of) {
        named.entry(agent.id.as_str()).or_insert((usual.of(&agent.quotas), 0)).1 += 1;
    }
    let mut shares = shares(tx, context, &named).await?;
    let (mut now, mut over) = (Vec::with_capacity(batch.len()), Vec::new());
    for (place, inbound) in batch.into_iter().enumerate() {
        let agent = of(&inbound).map(|agent| agent.id.as_str());
        let is_over = |agent: &&str| shares.get_mut(*agent).is_some_and(|share| !share.admits());
        match agent.filter(is_over) {
            Some(agent) => over.push((place, agent, inbound)),
            None => now.push((place, Incoming::of(inbound))),
        }
    }
    let mut rows = Vec::new();
    let mut pauses: BTreeMap<String, Duration> = BTreeMap::new();
    for (_, agent, inbound) in &over {
        // A lane reads the queue no slower than the agent's rate: it may have room again at any time.
        let pause = shares.get(agent).map_or(PAUSE_MAX, |share| share.pause());
        *pauses.entry(inbound.delivery.exchange.clone()).or_default() += pause;
    }
    let known = known(tx, &over).await?;
    for (place, agent, inbound) in over {
        let Some(share) = shares.get_mut(agent) else { continue };
        let repeats = inbound.proposes().is_some_and(|reference| known.contains(reference));
        let storable = inbound.delivery.body.len() <= context.limits.message_bytes;
        if repeats {
            now.push((place, Incoming::of(inbound)));
        } else if storable && share.waits() {
            rows.push((agent, inbound));
        } else {
            let refused = Some(share.refusal(context));
            now.push((place, Incoming { refused, ..Incoming::of(inbound) }));
        }
    }
    if !rows.is_empty() {
        tracing::info!(proposals = rows.len(), "over their agents' quotas: they wait for their turn");
        let rows: Vec<NewWaiting<'_>> = rows.iter().map(|(agent, inbound)| row(agent, inbound)).collect();
        waiting::insert(tx, &rows).await?;
    }
    now.sort_unstable_by_key(|(place, _)| *place);
    let rates = shares.iter().filter(|(_, share)| share.admitted > 0);
    Ok(Admission {
        incoming: now.into_iter().map(|(_, incoming)| incoming).collect(),
        rates: rates
            .map(|(agent, share)| ((*agent).to_owned(), share.quotas.seconds_for(share.admitted)))
            .collect(),
        pauses,
    })
}

/// The shares of agents with these quotas, of which so many proposals have come.
async fn shares<'a>(
    tx: &Transaction,
    context: &EvaluationContext<'_>,
    named: &BTreeMap<&'a str, (Quotas, u64)>,
) -> Result<HashMap<&'a str, Share>, StoreError> {
    let agents: Vec<&str> = named.keys().copied().collect();
    let mut used = waiting::usage(tx, &agents).await?;
    let many = |(agent, (quotas, count)): (&&'a str, &(Quotas, u64))| {
        let usage = used.get(*agent).copied().unwrap_or_default();
        // Where something waits already, nothing is admitted here.
        let many = usage.waiting == 0 && *count > quotas.room(&usage, context.now) / UNLOCKED;
        many.then_some(*agent)
    };
    let many: Vec<&str> = named.iter().filter_map(many).collect();
    if !many.is_empty() {
        waiting::lock_quotas(tx, &many).await?;
        used.extend(waiting::usage(tx, &many).await?);
    }
    let share = |(agent, (quotas, _)): (&&'a str, &(Quotas, u64))| {
        let usage = used.remove(*agent).unwrap_or_default();
        let room = quotas.room(&usage, context.now);
        (*agent, Share { quotas: *quotas, usage, room, admitted: 0 })
    };
    Ok(named.iter().map(share).collect())
}

/// Those that only repeat a stored proposal: their agent asks for its outcome, which takes nobody's turn.
async fn known(
    tx: &Transaction,
    over: &[(usize, &str, Inbound<'_>)],
) -> Result<HashSet<ActionRef>, StoreError> {
    let references: Vec<&ActionRef> = over.iter().filter_map(|(_, _, inbound)| inbound.proposes()).collect();
    let known = actions::find(tx, &references).await?;
    Ok(known.into_iter().map(|known| known.reference).collect())
}

fn row<'a>(agent: &'a str, inbound: &'a Inbound<'_>) -> NewWaiting<'a> {
    let (event_id, expires_at) = match &inbound.message {
        Message::Proposal(proposal) => (proposal.reference.id.as_str(), proposal.expires_at),
        Message::Cancellation(_) | Message::Refused(_) => ("", None),
    };
    let delivery = inbound.delivery;
    NewWaiting {
        agent,
        event_id,
        body: &delivery.body,
        author: delivery.author.as_deref().unwrap_or_default(),
        exchange: &delivery.exchange,
        routing_key: &delivery.routing_key,
        expires_at,
    }
}
