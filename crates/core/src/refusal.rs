//! Every refusal, with its code. The contract document lists them; evidence, answers, outcomes and the quarantine carry them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An agent's proposal: answered with outcome `denied`, or quarantined where it cannot be told whose it is.
    Proposal,
    /// An agent's cancellation: quarantined, or noted on the action.
    Cancellation,
    /// A reviewer's decision: answered, and noted on the action.
    Decision,
    /// An auditor's finding: noted on the action, or quarantined.
    Finding,
    /// A permit, or a pack of them: noted, and nothing is executed.
    Permit,
    /// A sweep's command: quarantined.
    Command,
    /// Any message at all: quarantined.
    Message,
}

macro_rules! codes {
    ($($variant:ident $code:literal of $($subject:ident)|+: $meaning:literal;)+) => {
        /// Why something has no effect, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$variant),+];

            /// The word in messages, evidence and tables.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code),+ }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $meaning),+ }
            }

            /// What can be refused so.
            pub fn of(self) -> &'static [Subject] {
                match self { $(Code::$variant => &[$(Subject::$subject),+]),+ }
            }
        }
    };
}

codes! {
    // The door: who says it, and whether it can be read.
    Copied "copied" of Message: "The message has CC or BCC headers, which get around topic permissions.";
    AuthorMissing "author_missing" of Message: "The message names no AMQP user_id.";
    AuthorUnknown "author_unknown" of Message: "The AMQP user is nobody in the directory who may send this.";
    UnknownType "unknown_type" of Message | Permit: "The event type, or its major version, is not known here.";
    UnknownCommand "unknown_command" of Command: "The command is none that this role obeys.";
    Undeliverable "undeliverable" of Message: "No queue took the message, or a queue gave it up.";
    Poison "poison" of Message: "The message cannot be stored.";
    MessageTooLarge "message_too_large" of Proposal | Cancellation | Decision | Finding: "The message is over the size limit.";
    NotJson "not_json" of Proposal | Cancellation | Decision | Finding: "The message is not one JSON value in UTF-8.";
    DuplicateKey "duplicate_key" of Proposal | Cancellation | Decision | Finding: "An object has the same key twice.";
    ReservedKey "reserved_key" of Proposal | Cancellation | Decision | Finding:
        "An object has a key that begins with $serde_json::private::, which readers may take for something else.";
    IntegerOutOfRange "integer_out_of_range" of Proposal | Cancellation | Decision | Finding:
        "A number is of magnitude 2^53 or more, where JSON loses digits.";
    NestedTooDeeply "nested_too_deeply" of Proposal | Cancellation | Decision | Finding: "Arrays and objects are nested too deeply.";
    InvalidEnvelope "invalid_envelope" of Proposal: "The message is no CloudEvents 1.0 event with source and id.";
    SourceForged "source_forged" of Proposal | Cancellation: "The source is another's than the author's.";
    DuplicateId "duplicate_id" of Proposal: "The same source and id was proposed before with another body.";

    // Before policy.
    InvalidProposal "invalid_proposal" of Proposal: "The data lacks tool, arguments or agent, or has them in another shape.";
    AgentUnknown "agent_unknown" of Proposal: "The agent is not, or no longer, in the directory.";
    AgentMismatch "agent_mismatch" of Proposal: "data.agent.id is another than the author.";
    ProposalTooOld "proposal_too_old" of Proposal: "The time lies before the horizon within which duplicates are known.";
    UnknownTool "unknown_tool" of Proposal | Decision: "The tool registry has no such tool.";
    InvalidArguments "invalid_arguments" of Proposal: "The arguments do not fit the tool's schema.";

    // Policy, people and time.
    Policy "policy" of Proposal: "A rule of the policy denies it.";
    Rejected "rejected" of Proposal: "A reviewer rejected it; where the rule has reason codes, the chosen one stands instead.";
    Responded "responded" of Proposal: "A reviewer answered with a message; propose again with `supersedes`.";
    Expired "expired" of Proposal | Decision: "Its time, or its approval's time, ran out.";
    Cancelled "cancelled" of Proposal: "Its agent withdrew it.";
    InvalidCancellation "invalid_cancellation" of Cancellation: "The data names no action.";
    TooLate "too_late" of Cancellation: "The action has been claimed, or has ended.";

    // Who signed it, and when.
    InvalidDecision "invalid_decision" of Decision: "The data is no signed statement: its header, payload or shape cannot be read.";
    Unsigned "unsigned" of Decision | Finding: "The data has no `jws`.";
    ReviewerUnknown "reviewer_unknown" of Decision: "The statement's reviewer is not in the directory.";
    NotSpokenFor "not_spoken_for" of Decision | Finding: "The sender may not bring what this person signs.";
    KeyUnknown "key_unknown" of Decision | Finding: "The key is neither the person's nor the sending app's.";
    KeyRevoked "key_revoked" of Decision | Finding: "The key has been revoked.";
    KeyNotValid "key_not_valid" of Decision | Finding: "The key is not valid yet, or no longer.";
    SignatureInvalid "signature_invalid" of Decision | Finding: "The signature is not the key's over these bytes.";
    Replayed "replayed" of Decision | Finding: "The key has signed another message with this jti, or this one came before as another event.";
    Stale "stale" of Decision | Finding: "It was signed too long ago.";
    SignedInFuture "signed_in_future" of Decision | Finding: "It was signed later than now.";
    Undisclosed "undisclosed" of Decision | Finding: "What a digest in the payload stands for was not sent along.";
    DecisionCount "decision_count" of Decision | Finding: "A statement has 1 to 100 decisions or findings.";

    // Whether the decision can count.
    ApprovalUnknown "approval_unknown" of Decision: "There never was such a request.";
    Superseded "superseded" of Decision | Permit: "Another request, or another permit, has taken its place.";
    NotOpen "not_open" of Decision | Finding: "It has ended.";
    DeniedByPolicy "denied_by_policy" of Decision: "Judged again when the decision came, policy denies the action.";
    Changed "changed" of Decision: "Judged again when the decision came, the action no longer waits as it was shown.";
    NotInGroup "not_in_group" of Decision | Finding: "It is for others to decide.";
    Requester "requester" of Decision: "Who asks, or is served by it, may not decide it.";
    PolicyAuthor "policy_author" of Decision: "Who wrote or applied the policy may not decide what it asks.";
    Excluded "excluded" of Decision: "The rule excludes the reviewer from deciding this.";
    BeyondAuthority "beyond_authority" of Decision: "It is beyond the reviewer's authority.";
    DigestMismatch "digest_mismatch" of Decision | Finding | Permit: "The digest is not that of what would be executed.";
    NotAllowed "not_allowed" of Decision: "The rule does not allow this kind of decision.";
    AlreadyDecided "already_decided" of Decision: "The same person has decided otherwise.";
    NotYet "not_yet" of Command: "No deadline has passed.";
    ReasonMissing "reason_missing" of Decision | Finding: "It needs a reason, or a reason_code.";
    ReasonUnknown "reason_unknown" of Decision | Finding: "The reason_code is none of the request's reason_codes.";
    ReasonTooLong "reason_too_long" of Decision | Finding: "The reason is too long.";
    ArgumentsMissing "arguments_missing" of Decision: "An edit needs arguments: an object.";
    EditSame "edit_same" of Decision: "These are the arguments that the action has already.";
    EditDenied "edit_denied" of Decision: "The tool's schema or the policy refuses the edited arguments.";
    Illegal "illegal" of Proposal | Decision: "The action's state has no place for it.";

    // Audits.
    InvalidFinding "invalid_finding" of Finding: "The data is no signed statement: its header, payload or shape cannot be read.";
    AuditorUnknown "auditor_unknown" of Finding: "The statement's auditor is not in the directory.";
    AuditUnknown "audit_unknown" of Finding: "There is no such audit.";
    AlreadyJudged "already_judged" of Finding: "The same person has judged it.";
    SeverityMissing "severity_missing" of Finding: "Wrong needs a severity, and nothing else has one.";
    NotReversible "not_reversible" of Finding: "Only what is wrong and can still be undone is compensated, once.";
    InvalidCorrection "invalid_correction" of Finding: "The correction is no object with tool or arguments.";
    ResolutionMissing "resolution_missing" of Finding: "The action is in doubt: say whether it succeeded or failed.";
    NotInDoubt "not_in_doubt" of Finding: "The action is not in doubt: there is nothing to resolve.";

    // Permits.
    PermitMalformed "permit_malformed" of Permit: "The pack cannot be read.";
    PermitForged "permit_forged" of Permit: "The pack is not signed by the router's key over these permits.";
    PermitExpired "permit_expired" of Permit: "The permit ran out before it was used.";
    GenerationChanged "generation_changed" of Permit: "Policy, tools, directory or holds have changed since it was issued.";
    ActionUnknown "action_unknown" of Permit: "There is no such action.";
    AlreadyUsed "already_used" of Permit: "The permit has been used.";
    NotAuthorised "not_authorised" of Permit: "The action is not authorised.";
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

/// Why something has no effect: for programs, and for people.
pub type Complaint = (Code, String);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_refusals_share_a_code() {
        let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }
}
