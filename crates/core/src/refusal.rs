//! Every code that reaches a message, a row or a person, with its meaning. The contract document lists them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a code applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An agent's proposal: answered with outcome `denied`, or quarantined if its sender is unknown.
    Proposal,
    /// An agent's cancellation: quarantined, or noted on the action.
    Cancellation,
    /// A reviewer's decision: answered, and noted on the action.
    Decision,
    /// An auditor's finding: noted on the action, or quarantined.
    Finding,
    /// A permit or a pack of permits: noted, and nothing is executed.
    Permit,
    /// A sweep's command: quarantined.
    Command,
    /// A pack of settled actions: quarantined.
    Settled,
    /// Any message: quarantined.
    Message,
    /// A call to a tool: the error of an outcome `failed` or `in_doubt`.
    Execution,
}

macro_rules! codes {
    ($($variant:ident $code:literal of $($subject:ident)|+: $meaning:literal;)+) => {
        /// The machine-readable reason why something was refused or did not succeed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// Every code, in the order of an action's life.
            pub const ALL: &[Code] = &[$(Code::$variant),+];

            /// The word in messages, evidence and tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code),+ }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning),+ }
            }

            /// What it applies to.
            pub fn of(self) -> &'static [Subject] {
                match self { $(Code::$variant => &[$(Subject::$subject),+]),+ }
            }
        }
    };
}

codes! {
    // Ingress: who sent it, and whether it can be decoded.
    Copied "copied" of Message: "The message has CC or BCC headers, which bypass topic permissions.";
    AuthorMissing "author_missing" of Message: "The message has no AMQP user_id.";
    AuthorUnknown "author_unknown" of Message: "The AMQP user is not in the directory, or may not send such a message.";
    UnreadableProperties "unreadable_properties" of Message:
        "The message's properties or headers are not UTF-8, nested too deeply or of an unknown type.";
    UnknownType "unknown_type" of Message | Permit: "The event type or its major version is unknown.";
    UnknownCommand "unknown_command" of Command: "This role does not carry out such a command.";
    PackMalformed "pack_malformed" of Settled: "The pack of settled actions is malformed.";
    Undeliverable "undeliverable" of Message: "No queue accepted the message, or a queue dropped it.";
    Poison "poison" of Message: "The message failed again and again when it was handled alone, while others were stored.";
    MessageTooLarge "message_too_large" of Proposal | Cancellation | Decision | Finding: "The message exceeds the size limit.";
    NotJson "not_json" of Proposal | Cancellation | Decision | Finding: "The message is not a single JSON value in UTF-8.";
    DuplicateKey "duplicate_key" of Proposal | Cancellation | Decision | Finding: "An object has a duplicate key.";
    ReservedKey "reserved_key" of Proposal | Cancellation | Decision | Finding:
        "An object has a key that begins with $serde_json::private::, which some readers treat specially.";
    IntegerOutOfRange "integer_out_of_range" of Proposal | Cancellation | Decision | Finding:
        "A number has a magnitude of 2^53 or more, where JSON loses digits. Send it as a string.";
    NestedTooDeeply "nested_too_deeply" of Proposal | Cancellation | Decision | Finding: "Arrays and objects are nested too deeply.";
    InvalidEnvelope "invalid_envelope" of Proposal: "The message is not a CloudEvents 1.0 event with `source` and `id`.";
    SourceForged "source_forged" of Proposal | Cancellation: "`source` does not belong to the authenticated sender.";
    DuplicateId "duplicate_id" of Proposal: "An action with the same `source` and `id` but another body was proposed before.";

    // Before policy.
    InvalidProposal "invalid_proposal" of Proposal: "`data` lacks `tool`, `arguments` or `agent`, or one of them is malformed.";
    AgentUnknown "agent_unknown" of Proposal: "The agent is not in the directory.";
    AgentMismatch "agent_mismatch" of Proposal: "`data.agent.id` is not the authenticated agent.";
    ProposalTooOld "proposal_too_old" of Proposal: "`time` is older than the horizon within which duplicates are detected.";
    RateLimited "rate_limited" of Proposal:
        "The agent is over its quotas, and too much of it waits already. Propose it again under a new id, not before `retry_at`.";
    UnknownTool "unknown_tool" of Proposal | Decision: "The tool registry has no such tool.";
    InvalidArguments "invalid_arguments" of Proposal: "The arguments do not fit the tool's schema.";

    // Policy, people and time.
    Policy "policy" of Proposal: "A policy rule denies the action.";
    Rejected "rejected" of Proposal: "A reviewer rejected the action. If the rule has reason codes, the chosen one is given instead.";
    Responded "responded" of Proposal: "A reviewer answered with a message. Propose again with `supersedes`.";
    Expired "expired" of Proposal | Decision: "The action or its approval request expired.";
    Cancelled "cancelled" of Proposal: "The agent withdrew the action.";
    InvalidCancellation "invalid_cancellation" of Cancellation: "`data` does not identify an action.";
    TooLate "too_late" of Cancellation: "The action has been claimed or has ended.";

    // Who signed it, and when.
    InvalidDecision "invalid_decision" of Decision: "`data` is not a signed statement: its header, payload or shape is malformed.";
    Unsigned "unsigned" of Decision | Finding: "The data has no `jws`.";
    ReviewerUnknown "reviewer_unknown" of Decision: "The reviewer named in the statement is not in the directory.";
    NotSpokenFor "not_spoken_for" of Decision | Finding: "The sender may not submit statements for this person.";
    KeyUnknown "key_unknown" of Decision | Finding: "The key belongs neither to the person nor to the sending app.";
    KeyRevoked "key_revoked" of Decision | Finding: "The key has been revoked.";
    KeyNotValid "key_not_valid" of Decision | Finding: "The key is not yet valid, or no longer valid.";
    SignatureInvalid "signature_invalid" of Decision | Finding: "The signature does not verify.";
    Replayed "replayed" of Decision | Finding: "The key has already signed another message with this `jti`, or this statement was submitted before as another event.";
    Stale "stale" of Decision | Finding: "The statement was signed too long ago.";
    SignedInFuture "signed_in_future" of Decision | Finding: "The statement is signed with a time in the future.";
    Undisclosed "undisclosed" of Decision | Finding: "The payload contains a digest whose content was not disclosed.";
    DecisionCount "decision_count" of Decision | Finding: "A statement has 1 to 100 decisions or findings.";

    // Whether the decision can count.
    ApprovalUnknown "approval_unknown" of Decision: "There is no such approval request.";
    Superseded "superseded" of Decision | Permit: "Another request or permit has replaced it.";
    NotOpen "not_open" of Decision | Finding: "It is no longer open.";
    DeniedByPolicy "denied_by_policy" of Decision: "When the decision arrived, the policy was evaluated again and denied the action.";
    Changed "changed" of Decision: "When the decision arrived, the policy was evaluated again and the action no longer waits for the approval that was shown.";
    NotInGroup "not_in_group" of Decision | Finding: "The person is in none of the groups that may decide.";
    Requester "requester" of Decision | Finding: "The agent's owner, and the person on whose behalf it acts, may not judge its action.";
    PolicyAuthor "policy_author" of Decision | Finding: "A person who wrote or applied the policy may not judge what it leads to.";
    Approver "approver" of Finding: "A person who approved the action may not audit it.";
    Excluded "excluded" of Decision: "A rule excludes the reviewer from this decision.";
    BeyondAuthority "beyond_authority" of Decision: "The action exceeds the reviewer's authority.";
    DigestMismatch "digest_mismatch" of Decision | Finding | Permit: "The digest does not match what would be executed.";
    NotAllowed "not_allowed" of Decision: "The rule does not allow this kind of decision.";
    SupersededDecision "superseded_decision" of Decision: "The same person has decided differently in a statement that was signed later.";
    Editor "editor" of Decision: "Who has edited an action may not approve it, unless the rule counts an edit as an approval.";
    NotYet "not_yet" of Command: "No deadline has passed.";
    ReasonMissing "reason_missing" of Decision | Finding: "A reason or a reason_code is required.";
    ReasonUnknown "reason_unknown" of Decision | Finding: "The reason_code is not among the request's reason_codes.";
    ReasonTooLong "reason_too_long" of Decision | Finding: "The reason is too long.";
    ArgumentsMissing "arguments_missing" of Decision: "An edit requires `arguments`, an object.";
    EditSame "edit_same" of Decision: "The edited arguments are the same as the current ones.";
    EditDenied "edit_denied" of Decision: "The tool's schema or the policy refuses the edited arguments.";
    Illegal "illegal" of Proposal | Decision: "The action's state does not allow it.";

    // Audits.
    InvalidFinding "invalid_finding" of Finding: "`data` is not a signed statement: its header, payload or shape is malformed.";
    AuditorUnknown "auditor_unknown" of Finding: "The auditor named in the statement is not in the directory.";
    AuditUnknown "audit_unknown" of Finding: "There is no such audit.";
    AlreadyJudged "already_judged" of Finding: "The same person has already judged this audit.";
    SeverityMissing "severity_missing" of Finding: "A finding `wrong` requires a severity; no other finding has one.";
    NotReversible "not_reversible" of Finding: "Only a wrong action that can still be undone is compensated, and only once.";
    InvalidCorrection "invalid_correction" of Finding: "The correction is not an object with `tool` or `arguments`.";
    ResolutionMissing "resolution_missing" of Finding: "The action is in doubt: `resolution` must say whether it succeeded.";
    NotInDoubt "not_in_doubt" of Finding: "The action is not in doubt: there is nothing to resolve.";

    // Calls to tools. PATTERNS and CHOSEN below name what else an outcome's error can hold.
    Unreachable "unreachable" of Execution: "No connection to the tool could be established. Nothing was sent.";
    ConnectionLost "connection_lost" of Execution: "The connection was lost after the request had been sent.";
    Timeout "timeout" of Execution: "The tool did not answer in time.";
    ReplyUnreadable "reply_unreadable" of Execution: "The tool's reply is malformed, so its effect is unknown.";
    Interrupted "interrupted" of Execution: "An attempt was interrupted and may have had its effect.";
    LeaseExpired "lease_expired" of Execution: "The claim's lease left too little time for the call, or for another attempt.";
    ContentUnreadable "content_unreadable" of Execution: "The stored content of the action is malformed. Nothing was sent.";
    AttemptsExhausted "attempts_exhausted" of Execution: "All attempts have been used.";
    Resolved "resolved" of Execution: "An auditor found that an action in doubt did not succeed.";

    // Permits.
    PermitMalformed "permit_malformed" of Permit: "The permit pack is malformed.";
    PermitForged "permit_forged" of Permit: "The pack's signature over these permits does not verify.";
    PermitExpired "permit_expired" of Permit: "The permit expired before it was used.";
    GenerationChanged "generation_changed" of Permit: "Policy, tools, directory or holds have changed since the permit was issued.";
    ActionUnknown "action_unknown" of Permit: "There is no such action.";
    AlreadyUsed "already_used" of Permit: "The permit has been used.";
    NotAuthorised "not_authorised" of Permit: "The action is not authorised.";
}

/// Codes with a variable part.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pattern {
    /// A regular expression that matches the whole code.
    pub pattern: &'static str,
    /// What the codes apply to.
    pub of: &'static [Subject],
    /// What they mean, for people.
    pub meaning: &'static str,
}

/// Every kind of code with a variable part.
pub const PATTERNS: &[Pattern] = &[Pattern {
    pattern: "^http_[0-9]{3}$",
    of: &[Subject::Execution],
    meaning: "The tool answered with this HTTP status.",
}];

/// Codes that others choose, and which the contract therefore cannot list: where they stand, and who chooses them.
pub const CHOSEN: &[(&str, &str)] = &[
    (
        "error.code of an outcome `rejected`, reason_code of feedback on it",
        "The reason_code of the rejection, from the reason_codes of the policy's rule; `rejected` or `responded` without one.",
    ),
    (
        "error.code of an outcome `failed` or `in_doubt`",
        "The `code` with which a tool service on a queue replied.",
    ),
    (
        "reason_code of findings and of feedback on them",
        "From the reason_codes that the policy has for audits; if it has none, the auditor chooses freely.",
    ),
];

/// The code of a tool's answer with this HTTP status, by the first of [`PATTERNS`].
pub fn http_status(status: u16) -> String {
    format!("http_{status}")
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let code = Code::ALL.iter().copied().find(|code| code.as_str() == text);
        code.ok_or_else(|| de::Error::custom(format!("{text:?} is not a code")))
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.as_str().into()
    }
}

/// Why something has no effect: the code for programs, and a text for people.
pub type Complaint = (Code, String);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_http_status_has_a_unique_code() {
        assert_eq!(http_status(503), "http_503");
        assert!(Code::ALL.iter().all(|code| !code.as_str().starts_with("http_")));
    }

    #[test]
    fn no_two_refusals_share_a_code() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }
}
