//! The load: agents, reviewers and auditors, which log what they do. They know only the contract, and reconnect after every
//! failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use countersign_broker::{
    BrokerError,
    publisher::{Outgoing, Publisher},
    reader::Reader,
    topology::{actions_exchange, approvals_queue, audits_queue, outcomes_queue},
};
use countersign_core::{
    message::{
        ApprovalRequest, AuditReason, AuditRequest, Decision, DecisionData, Finding, FindingData,
        OutcomeData, Resolution,
    },
    signed::Signer,
};
use countersign_testkit::{
    clients::{decision, finding, found, proposal, signed, withdrawal},
    system::System,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle};

use super::history::{Event, History, Kind, Phase, SPENT, customer};

/// How long a client waits before it connects again.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);
/// How long a reader waits for a message before it checks its connection.
const QUIET: Duration = Duration::from_secs(20);

/// How long a client waits before it answers the same request again. Requests are republished every few seconds, and
/// answering each copy would only delay the others.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// The requests that a client has answered, and when.
#[derive(Default)]
struct RecentStatements {
    at: BTreeMap<String, Instant>,
    left: BTreeSet<String>,
}

impl RecentStatements {
    fn lately(&self, request: &str) -> bool {
        self.at.get(request).is_some_and(|at| at.elapsed() < ANSWERED_WITHIN)
    }

    fn now(&mut self, request: String, phase: Phase) {
        if phase == Phase::Ok {
            self.at.insert(request, Instant::now());
        }
    }

    /// Whether to ignore a request: a quarter of them on first sight, so that they must be republished.
    fn leaves(&mut self, seed: u64, request: &str) -> bool {
        dice(!seed, request).is_multiple_of(4) && self.left.insert(request.to_owned())
    }
}

/// What all clients share.
#[derive(Clone)]
pub(crate) struct Clients {
    history: History,
    seed: u64,
    stop: Arc<watch::Sender<bool>>,
    sent: Arc<Mutex<BTreeMap<String, Value>>>,
}

/// The tasks of the clients; dropping ends them.
#[derive(Default)]
pub(crate) struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// What an agent proposes.
struct Action {
    id: String,
    kind: Kind,
    arguments: Value,
}

impl Action {
    fn new(seed: u64, id: String, kind: Kind) -> Self {
        let arguments = match kind {
            Kind::Record => json!({"n": dice(seed, &id) % 1_000_000, "ref": id}),
            Kind::Letter => json!({"ref": id, "text": "Dear"}),
            Kind::Large => json!({"amount": "500", "ref": id}),
            Kind::Quorum => json!({"amount": "500", "to": "somebody", "ref": id}),
            Kind::Soon => json!({"ref": id}),
            Kind::Spend => json!({"amount": SPENT.to_string(), "ref": id}),
        };
        Self { id, kind, arguments }
    }
}

/// The same number for the same seed and text.
pub(crate) fn dice(seed: u64, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, text).hash(&mut hasher);
    hasher.finish()
}

impl Clients {
    pub(crate) fn new(history: History, seed: u64) -> Self {
        Self { history, seed, stop: Arc::new(watch::channel(false).0), sent: Arc::default() }
    }

    /// Starts two agents, reviewers of three groups and two auditors. `rate`: actions per second and agent.
    pub(crate) fn start(&self, system: &System, rate: f64) -> anyhow::Result<Tasks> {
        let mut tasks = Tasks::default();
        for agent in ["one", "two"] {
            let url = system.url(&format!("agent-{agent}"))?.to_owned();
            tasks.spawn(self.clone().proposes(url.clone(), agent, rate));
            tasks.spawn(self.clone().receive_outcomes(url, agent));
        }
        let reviewers = [
            ("sam", "approvers"),
            ("mara", "approvers"),
            ("tara", "treasury"),
            ("tom", "treasury"),
            ("bea", "treasury"),
            ("rob", "risk"),
        ];
        for (person, group) in reviewers {
            let url = system.url(&format!("reviewer-{person}"))?.to_owned();
            tasks.spawn(self.clone().reviews(url, system.signer(person, person)?, person, group));
        }
        for person in ["ada", "ben"] {
            let url = system.url(&format!("auditor-{person}"))?.to_owned();
            tasks.spawn(self.clone().audits(url, system.signer(person, person)?, person));
        }
        Ok(tasks)
    }

    /// Stops the agents' proposals; everybody else goes on.
    pub(crate) fn stop_proposing(&self) {
        self.stop.send_replace(true);
    }

    /// Repeats proposals unchanged, which makes the gate repeat lost outcomes.
    pub(crate) async fn ask_again(&self, system: &System, ids: &[String]) -> anyhow::Result<()> {
        for agent in ["one", "two"] {
            let prefix = format!("{agent}-");
            let events: Vec<Value> = {
                let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
                let mine = ids.iter().filter(|id| id.starts_with(&prefix));
                mine.filter_map(|id| sent.get(id).cloned()).collect()
            };
            let publisher = Publisher::connect(system.url(&format!("agent-{agent}"))?, "agent").await?;
            publisher.publish(&events.iter().map(|event| message(agent, event)).collect::<Vec<_>>()).await?;
        }
        Ok(())
    }

    /// An agent's actions, one to three at a time, until it is stopped.
    async fn proposes(self, url: String, agent: &'static str, rate: f64) {
        let mut rng = StdRng::seed_from_u64(dice(self.seed, agent));
        let (mut publisher, mut n) = (None, 0_u32);
        while !*self.stop.borrow() {
            let window = rng.random_range(1..=3);
            let actions: Vec<Action> = (0..window)
                .map(|_| {
                    n += 1;
                    Action::new(self.seed, format!("{agent}-{n:05}"), kind(&mut rng))
                })
                .collect();
            let events: Vec<Value> = actions.iter().map(|action| self.proposal(agent, action)).collect();
            let mut messages: Vec<Outgoing> = events.iter().map(|event| message(agent, event)).collect();
            if rng.random_bool(0.03) {
                messages.push(message(agent, &events[0]));
            }
            if rng.random_bool(0.02) {
                messages.push(message(agent, &withdrawal(agent, &actions[0].id)));
            }
            let insistent = rng.random_bool(0.7);
            self.insist(&url, &mut publisher, &messages, &actions, insistent).await;
            tokio::time::sleep(Duration::from_secs_f64(f64::from(window) / rate)).await;
        }
    }

    /// Sends until it is confirmed, or once if the agent is not insistent.
    async fn insist(
        &self,
        url: &str,
        publisher: &mut Option<Publisher>,
        messages: &[Outgoing],
        actions: &[Action],
        insistent: bool,
    ) {
        loop {
            let log = |phase| {
                for Action { id, kind, arguments } in actions {
                    let (id, arguments) = (id.clone(), arguments.clone());
                    self.history.log(Event::Proposed { id, kind: *kind, arguments, phase });
                }
            };
            let phase = send(url, publisher, messages, || log(Phase::Invoke)).await;
            log(phase);
            if phase == Phase::Ok || (phase == Phase::Unknown && !insistent) || *self.stop.borrow() {
                return;
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    fn proposal(&self, agent: &str, action: &Action) -> Value {
        let mut event = proposal(agent, &action.id, action.kind.tool(), action.arguments.clone());
        // The limit is per customer, whichever agent spends.
        event["data"]["agent"]["on_behalf_of"] = json!(customer(&action.id));
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(action.id.clone(), event.clone());
        event
    }

    /// Receives outcomes for an agent.
    async fn receive_outcomes(self, url: String, agent: &'static str) {
        loop {
            // Connections are broken on purpose.
            let _ = self.outcomes(&url, agent).await;
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn outcomes(&self, url: &str, agent: &str) -> Result<(), BrokerError> {
        let mut reader = Reader::open(url, "agent", &outcomes_queue(agent)).await?;
        while let Some(event) = reader.next::<OutcomeData>(QUIET).await? {
            let data = event.data;
            self.history.log(Event::OutcomeReceived { id: data.action.id, outcome: data.outcome });
        }
        Ok(())
    }

    async fn reviews(self, url: String, signer: Signer, person: &'static str, group: &'static str) {
        let mut recent = RecentStatements::default();
        loop {
            let _ = self.requests(&url, &signer, person, group, &mut recent).await;
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn requests(
        &self,
        url: &str,
        signer: &Signer,
        person: &str,
        group: &str,
        recent: &mut RecentStatements,
    ) -> Result<(), BrokerError> {
        let mut reader = Reader::open(url, "reviewer", &approvals_queue(group)).await?;
        let mut publisher = None;
        while let Some(event) = reader.next::<ApprovalRequest>(QUIET).await? {
            let request = event.data;
            if recent.lately(&request.approval.to_string()) {
                continue;
            }
            let (data, arguments) = self.decides(&request, person);
            let message = signed(signer, std::slice::from_ref(&data));
            let log = |phase| {
                self.history.log(Event::Decided {
                    id: request.action.id.clone(),
                    event: message.message_id.clone(),
                    reviewer: person.into(),
                    decision: data.decision,
                    digest: data.digest.clone(),
                    arguments: arguments.clone(),
                    phase,
                });
            };
            let phase =
                send(url, &mut publisher, std::slice::from_ref(&message), || log(Phase::Invoke)).await;
            log(phase);
            recent.now(request.approval.to_string(), phase);
            if data.decision == Decision::Approve && self.changes_mind(&request, person) {
                self.withdraws(url, &mut publisher, signer, &request, person).await;
            }
        }
        Ok(())
    }

    /// Whether a reviewer who has approved rejects at once what they have approved.
    fn changes_mind(&self, request: &ApprovalRequest, person: &str) -> bool {
        dice(self.seed, &format!("second thought of {person} on {}", request.action.id)).is_multiple_of(10)
    }

    /// Rejects what the same person has just approved: it counts while the request is open.
    async fn withdraws(
        &self,
        url: &str,
        publisher: &mut Option<Publisher>,
        signer: &Signer,
        request: &ApprovalRequest,
        person: &str,
    ) {
        let data = decision(request, Decision::Reject, Some("on second thought"));
        let message = signed(signer, std::slice::from_ref(&data));
        let log = |phase| {
            self.history.log(Event::Decided {
                id: request.action.id.clone(),
                event: message.message_id.clone(),
                reviewer: person.into(),
                decision: data.decision,
                digest: data.digest.clone(),
                arguments: serde_json::from_str(request.action.arguments.get()).unwrap_or_default(),
                phase,
            });
        };
        let phase = send(url, publisher, std::slice::from_ref(&message), || log(Phase::Invoke)).await;
        log(phase);
    }

    /// A reviewer's decision, mostly the same for all reviewers of an action, and the arguments that it approves.
    fn decides(&self, request: &ApprovalRequest, person: &str) -> (DecisionData, Value) {
        let (id, own) = (&request.action.id, format!("{person} on {}", request.action.id));
        let shown: Value = serde_json::from_str(request.action.arguments.get()).unwrap_or_default();
        let disputed = dice(self.seed, &format!("dispute of {id}")).is_multiple_of(4);
        let dice = dice(self.seed, if disputed { &own } else { id }) % 100;
        let edited = shown["edited"] == json!(true);
        if dice < 12 {
            return (decision(request, Decision::Reject, Some("not this one")), shown);
        }
        if dice < 25 && !edited && request.allowed_decisions.contains(&Decision::Edit) {
            let mut written = shown;
            (written["amount"], written["edited"]) = (json!("400"), json!(true));
            let data = decision(request, Decision::Edit, Some("less"));
            return (DecisionData { arguments: Some(written.clone()), ..data }, written);
        }
        (decision(request, Decision::Approve, None), shown)
    }

    async fn audits(self, url: String, signer: Signer, person: &'static str) {
        let mut recent = RecentStatements::default();
        loop {
            let _ = self.judges(&url, &signer, person, &mut recent).await;
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn judges(
        &self,
        url: &str,
        signer: &Signer,
        person: &str,
        recent: &mut RecentStatements,
    ) -> Result<(), BrokerError> {
        let mut reader = Reader::open(url, "auditor", &audits_queue("auditors")).await?;
        let mut publisher = None;
        while let Some(event) = reader.next::<AuditRequest>(QUIET).await? {
            let request = event.data;
            let audit = request.audit.to_string();
            if recent.lately(&audit) || recent.leaves(self.seed, &audit) {
                continue;
            }
            let data = self.finds(&request);
            let message = found(signer, std::slice::from_ref(&data));
            let log = |phase| {
                self.history.log(Event::Found {
                    id: request.action.id.clone(),
                    event: message.message_id.clone(),
                    auditor: person.into(),
                    finding: data.finding,
                    phase,
                });
            };
            let phase =
                send(url, &mut publisher, std::slice::from_ref(&message), || log(Phase::Invoke)).await;
            log(phase);
            recent.now(audit, phase);
        }
        Ok(())
    }

    /// An auditor's finding. An action in doubt is resolved by the tool service's log.
    fn finds(&self, request: &AuditRequest) -> FindingData {
        let id = &request.action.id;
        if request.reason == AuditReason::InDoubt {
            let done = self.history.acted(id);
            let resolution = if done { Resolution::Succeeded } else { Resolution::Failed };
            return FindingData { resolution: Some(resolution), ..finding(request, Finding::Correct, None) };
        }
        let wrong = dice(self.seed, id).is_multiple_of(5);
        finding(request, if wrong { Finding::Wrong } else { Finding::Correct }, Some("a test"))
    }
}

fn kind(rng: &mut StdRng) -> Kind {
    match rng.random_range(0..100) {
        0..15 => Kind::Letter,
        15..30 => Kind::Large,
        30..38 => Kind::Quorum,
        38..44 => Kind::Soon,
        44..50 => Kind::Spend,
        _ => Kind::Record,
    }
}

fn message(agent: &str, event: &Value) -> Outgoing {
    Outgoing {
        exchange: actions_exchange(agent).into(),
        routing_key: "tool".into(),
        message_id: event["id"].as_str().unwrap_or_default().to_owned(),
        body: event.to_string().into_bytes(),
    }
}

/// Publishes in one window; a publisher that failed is dropped. `invoke` is called before anything is sent.
async fn send(
    url: &str,
    publisher: &mut Option<Publisher>,
    messages: &[Outgoing],
    invoke: impl FnOnce(),
) -> Phase {
    let connected = match publisher.take() {
        Some(publisher) => publisher,
        None => match Publisher::connect(url, "torture").await {
            Ok(publisher) => publisher,
            Err(_) => return Phase::Fail,
        },
    };
    invoke();
    match connected.publish(messages).await {
        Ok(()) => {
            *publisher = Some(connected);
            Phase::Ok
        }
        Err(_) => Phase::Unknown,
    }
}
