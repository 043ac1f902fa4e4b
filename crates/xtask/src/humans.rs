//! Simulated humans of a demo: teams of reviewers around an app, and auditors.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use countersign_broker::{
    publisher::Publisher,
    reader::Reader,
    topology::{answers_queue, approvals_queue},
};
use countersign_core::{
    action::Outcome,
    ids::ApprovalId,
    message::{
        ApprovalAnswer, ApprovalRequest, Decision, DecisionData, DecisionResult, Finding, FindingData,
    },
    refusal::Code,
    signed::Signer,
};
use countersign_policy::{App, Member, Sender};
use countersign_testkit::{
    clients::{AuditorApp, decision, finding, signed},
    system::System,
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use crate::example::{Labels, Opinion};

/// Longer than a demo.
const IDLE_LIMIT: Duration = Duration::from_secs(3_600);

/// Codes that refuse the person, after which a colleague is asked.
const PERSONAL: [Code; 5] =
    [Code::BeyondAuthority, Code::Editor, Code::Excluded, Code::Requester, Code::PolicyAuthor];

/// Counts of the answers to the teams, by result or code.
pub(crate) type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

/// The running teams and auditors; dropping ends them.
pub(crate) struct Humans {
    _tasks: JoinSet<anyhow::Result<()>>,
    _auditors: Vec<AuditorApp>,
    /// The answers to the teams.
    pub(crate) answers: Counts,
}

impl Humans {
    /// Starts a team around each app of the directory, and every auditor. Reviewers without an app stay inactive.
    pub(crate) async fn start(system: &System, labels: &Arc<Labels>) -> anyhow::Result<Self> {
        let directory = &system.folder.configuration.directory;
        let (mut tasks, answers) = (JoinSet::new(), Counts::default());
        for app in directory.senders().filter_map(|sender| match sender {
            Sender::App(app) => Some(app),
            Sender::Reviewer(_) | Sender::Auditor(_) => None,
        }) {
            Team::start(system, app, labels.clone(), answers.clone(), &mut tasks).await?;
        }
        let mut auditors = Vec::new();
        for auditor in directory.auditors() {
            for group in &auditor.groups {
                auditors.push(judging(system, auditor, group, labels.clone()).await?);
            }
        }
        Ok(Self { _tasks: tasks, _auditors: auditors, answers })
    }
}

/// An auditor who judges what their group is asked.
async fn judging(
    system: &System,
    auditor: &Member,
    group: &str,
    labels: Arc<Labels>,
) -> anyhow::Result<AuditorApp> {
    let url = system.url(auditor.amqp_user.as_deref().unwrap_or_default())?;
    let signer = system.signer(&auditor.id, &auditor.id)?;
    AuditorApp::start(url, signer, group, move |request| {
        let right = labels.opinion(&request.action) == Opinion::Right;
        let refused = matches!(request.outcome, Outcome::Rejected | Outcome::Denied);
        let correct = right != refused;
        let found = if correct { Finding::Correct } else { Finding::Wrong };
        // Request the compensation of every error that can be undone.
        let compensate = !correct && request.compensation.is_some();
        Some(FindingData { compensate, ..finding(request, found, Some(NOT_WANTED)) })
    })
    .await
}

const NOT_WANTED: &str = "this is not what the customer asked for";

/// An incoming message of a team.
enum Note {
    /// A request to one of its groups.
    Asked(String, Box<ApprovalRequest>),
    /// The answer to a decision.
    Answered(ApprovalAnswer),
}

/// A member of a team, and their groups.
struct Colleague {
    id: String,
    groups: BTreeSet<String>,
    signer: Signer,
}

/// Reviewers around one app. As many of them decide a request as it requires of their group.
struct Team {
    publisher: Publisher,
    colleagues: Vec<Colleague>,
    labels: Arc<Labels>,
    answers: Counts,
    /// The people asked about a request, with the group they decide for.
    asked: HashMap<ApprovalId, Vec<(String, String)>>,
    /// Decisions sent, by the id of their event, with the group they were for.
    sent: HashMap<String, (String, DecisionData)>,
}

impl Team {
    async fn start(
        system: &System,
        app: &App,
        labels: Arc<Labels>,
        answers: Counts,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        let directory = &system.folder.configuration.directory;
        let url = system.url(&app.amqp_user)?;
        let members = directory.reviewers().iter().filter(|reviewer| app.reviewers.contains(&reviewer.id));
        let colleague = |id: &str, groups: &BTreeSet<String>| {
            anyhow::Ok(Colleague { id: id.into(), groups: groups.clone(), signer: system.signer(id, id)? })
        };
        let colleagues =
            members.map(|member| colleague(&member.id, &member.groups)).collect::<Result<_, _>>()?;
        let (notes, inbox) = mpsc::channel(64);
        for group in directory.groups_of(Sender::App(app)) {
            let queue = Reader::open(url, "team", &approvals_queue(&group)).await?;
            let note = move |request| Note::Asked(group.clone(), Box::new(request));
            tasks.spawn(forward(queue, notes.clone(), note));
        }
        let queue = Reader::open(url, "team", &answers_queue(&app.id)).await?;
        tasks.spawn(forward(queue, notes, Note::Answered));
        let publisher = Publisher::connect(url, "team").await?;
        let (asked, sent) = (HashMap::new(), HashMap::new());
        tasks.spawn(Self { publisher, colleagues, labels, answers, asked, sent }.work(inbox));
        Ok(())
    }

    async fn work(mut self, mut inbox: mpsc::Receiver<Note>) -> anyhow::Result<()> {
        while let Some(note) = inbox.recv().await {
            match note {
                Note::Asked(group, request) => self.look(&group, &request).await?,
                Note::Answered(answer) => self.count(&answer).await?,
            }
        }
        Ok(())
    }

    async fn look(&mut self, group: &str, request: &ApprovalRequest) -> anyhow::Result<()> {
        let asked = self.asked.entry(request.approval).or_default();
        if asked.iter().any(|(known, _)| known == group) {
            return Ok(());
        }
        let required = request.require.iter().find(|required| required.group == group);
        // A rejection by one of several groups is enough.
        let speaks = required.is_none() || request.require.first() == required;
        let opinion = self.labels.opinion(&request.action);
        let (data, people) = match opinion {
            Opinion::Right => {
                (decision(request, Decision::Approve, None), required.map_or(1, |required| required.count))
            }
            _ if !speaks => return Ok(()),
            Opinion::Wrong => (decision(request, Decision::Reject, Some(NOT_WANTED)), 1),
            Opinion::Should(arguments) => {
                let edit = decision(request, Decision::Edit, Some("this is what the customer asked for"));
                (DecisionData { arguments: Some(arguments), ..edit }, 1)
            }
        };
        for _ in 0..people {
            self.next(group, &data).await?;
        }
        Ok(())
    }

    /// The next colleague of the group who has not been asked decides.
    async fn next(&mut self, group: &str, data: &DecisionData) -> anyhow::Result<()> {
        let asked = self.asked.entry(data.approval).or_default();
        let colleague = self.colleagues.iter().find(|colleague| {
            colleague.groups.contains(group) && !asked.iter().any(|(_, id)| *id == colleague.id)
        });
        let Some(colleague) = colleague else { return Ok(()) };
        asked.push((group.into(), colleague.id.clone()));
        let message = signed(&colleague.signer, std::slice::from_ref(data));
        self.sent.insert(message.message_id.clone(), (group.into(), data.clone()));
        Ok(self.publisher.publish(&[message]).await?)
    }

    async fn count(&mut self, answer: &ApprovalAnswer) -> anyhow::Result<()> {
        let what = match (&answer.result, &answer.code) {
            (DecisionResult::Refused, Some(code)) => format!("refused: {code}"),
            _ => answer.decision.map_or("recorded", Decision::as_str).to_owned(),
        };
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
        let Some((group, data)) = answer.event.as_ref().and_then(|event| self.sent.remove(event)) else {
            return Ok(());
        };
        let personal = |code: &String| PERSONAL.iter().any(|personal| personal.as_str() == code);
        match answer.code.as_ref().is_some_and(personal) {
            true => self.next(&group, &data).await,
            false => Ok(()),
        }
    }
}

async fn forward<T: DeserializeOwned>(
    mut queue: Reader,
    notes: mpsc::Sender<Note>,
    note: impl Fn(T) -> Note,
) -> anyhow::Result<()> {
    while let Some(event) = queue.next::<T>(IDLE_LIMIT).await? {
        if notes.send(note(event.data)).await.is_err() {
            break;
        }
    }
    Ok(())
}
