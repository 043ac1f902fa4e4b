use countersign_core::{
    audit::Settled,
    ids::{ActionId, ActionRef},
};
use serde_json::json;
use uuid::Uuid;

use super::*;

/// An action that was proposed with 9 and is stored with `amount`.
fn item(amount: u32, state: State) -> FeedbackItem {
    let bytes = |value: Value| Some(value.to_string().into_bytes());
    FeedbackItem {
        id: ActionId(Uuid::nil()),
        reference: ActionRef { source: "/agents/bot".into(), id: "a-1".into() },
        agent: "bot".into(),
        tool: "pay".into(),
        state,
        rule: "all".into(),
        policy_version: "1".into(),
        approved: false,
        executed: state == State::Succeeded,
        body: bytes(json!({"data": {"arguments": {"amount": 9}}})),
        content: bytes(json!({"agent": {"id": "bot"}, "arguments": {"amount": amount}})),
        edited: (amount != 9).then(|| format!("{{\"amount\":{amount}}}").into_bytes()),
        edit: (amount != 9).then(Reason::default),
        approval: Reason::default(),
        rejection: (state == State::Rejected).then(|| Reason { code: Some("no".into()), text: None }),
        audit: None,
        pi: None,
    }
}

fn judged(item: FeedbackItem, finding: Finding, correction: Option<Value>) -> FeedbackItem {
    let severity = (finding == Finding::Wrong).then_some(Severity::Major);
    let correction = correction.map(|correction| correction.to_string().into_bytes());
    let settled = Settled { finding, severity };
    FeedbackItem { audit: Some(AuditResult { settled, reason: Reason::default(), correction }), ..item }
}

fn call(amount: u32) -> Option<Call> {
    Some(Call { tool: "pay".into(), arguments: json!({"amount": amount}) })
}

type Line = (Source, Option<Call>, Option<Call>, f64);

fn all(item: &FeedbackItem) -> Vec<Line> {
    let payload = Payload::of(item).unwrap();
    let line = |example: Example| (example.source, example.better, example.worse, example.weight);
    examples(item, &payload).into_iter().map(line).collect()
}

fn kinds(item: &FeedbackItem) -> Vec<FeedbackKind> {
    published(item, &Payload::of(item).unwrap()).into_iter().map(|(_, data)| data.kind).collect()
}

#[test]
fn an_edit_prefers_what_the_reviewer_wrote() {
    let edited = item(4, State::PendingApproval);
    assert_eq!(all(&edited), [(Source::Edit, call(4), call(9), 1.0)]);
    assert_eq!(kinds(&edited), [FeedbackKind::Edit]);
    let approved = FeedbackItem { approved: true, ..item(4, State::Succeeded) };
    assert_eq!(all(&approved), all(&edited));
}

#[test]
fn an_edit_that_was_refused_or_found_wrong_is_no_example() {
    let refused = item(4, State::Rejected);
    assert_eq!(all(&refused), [(Source::Edit, None, call(9), 1.0), (Source::Rejection, None, call(4), 1.0)]);
    let correction = json!({"tool": "pay", "arguments": {"amount": 3}});
    let wrong = judged(item(4, State::Succeeded), Finding::Wrong, Some(correction));
    assert_eq!(
        all(&wrong),
        [(Source::Edit, None, call(9), 1.0), (Source::Correction, call(3), call(4), 1.0)]
    );
    assert_eq!(kinds(&wrong), [FeedbackKind::Edit, FeedbackKind::Correction]);
}

#[test]
fn a_correction_weighs_as_many_as_were_not_drawn() {
    let correction = json!({"arguments": {"amount": 3}});
    let wrong = judged(item(9, State::Succeeded), Finding::Wrong, Some(correction));
    let drawn = FeedbackItem { pi: Some(0.25), ..wrong.clone() };
    assert_eq!(all(&drawn), [(Source::Correction, call(3), call(9), 4.0)]);
    // A look back is no sample.
    assert_eq!(all(&wrong), [(Source::Correction, call(3), call(9), 1.0)]);
    let none = judged(item(9, State::Succeeded), Finding::Wrong, Some(json!({"tool": null})));
    assert_eq!(all(&none), [(Source::Correction, None, call(9), 1.0)]);
    let (_, data) = published(&none, &Payload::of(&none).unwrap()).remove(0);
    assert_eq!(data.patch, Some(json!([{"op": "replace", "path": "", "value": null}])));
}

#[test]
fn what_was_right_is_an_example_once() {
    let correct = judged(FeedbackItem { pi: Some(0.5), ..item(9, State::Succeeded) }, Finding::Correct, None);
    assert_eq!(all(&correct), [(Source::JudgedCorrect, call(9), None, 2.0)]);
    let approved = FeedbackItem { approved: true, ..correct };
    assert_eq!(all(&approved), [(Source::Approval, call(9), None, 1.0)]);
    assert_eq!(kinds(&approved), []);
}

#[test]
fn a_rejection_that_an_auditor_found_wrong_teaches_nothing() {
    let rejected = item(9, State::Rejected);
    assert_eq!(all(&rejected), [(Source::Rejection, None, call(9), 1.0)]);
    let upheld = judged(rejected.clone(), Finding::Correct, None);
    assert_eq!(all(&upheld), all(&rejected));
    let overturned = judged(rejected, Finding::Wrong, None);
    assert!(all(&overturned).is_empty() && Payload::of(&overturned).unwrap().overturned(&overturned));
    assert_eq!(kinds(&overturned), [FeedbackKind::Rejection, FeedbackKind::Correction]);
}

#[test]
fn what_is_erased_is_not_known() {
    let whole = item(9, State::Succeeded);
    assert!(Payload::of(&FeedbackItem { content: None, ..whole.clone() }).is_none());
    assert!(Payload::of(&FeedbackItem { body: None, ..whole.clone() }).is_none());
    assert!(Payload::of(&FeedbackItem { body: Some(vec![]), ..whole }).is_none());
}
