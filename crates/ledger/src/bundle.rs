//! What one action's entries prove, to be checked by anybody who has the log's public key: no database, no broker.
//!
//! Everything in a bundle depends on the signed checkpoint: the entries through inclusion proofs; policies, contents
//! and statements through digests in the entries; keys through thumbprints in the entries.

use std::collections::{BTreeMap, BTreeSet};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL},
};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    Hash, LedgerError,
    note::{Checkpoint, LogKey},
    tree::verify_inclusion,
};
use countersign_core::{
    digest::{salted, tagged, untagged},
    evidence::Kind,
    ids::ActionId,
    json::{canonical, parse_strict},
    keyed,
    message::{DecisionData, FindingData},
    signed::{Received, Signable, SignedStatement, disclosure_digest, statement_digest, thumbprint},
};

/// The `format` of a bundle.
pub const FORMAT: &str = "countersign-bundle/v1";

/// The kind of entry that records an erasure.
pub const ERASED: &str = Kind::PayloadErased.as_str();

/// An action's bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: String,
    /// The action.
    pub action: ActionId,
    /// The signed note under which everything is proved.
    pub checkpoint: String,
    /// How many entries the action had then.
    pub count: usize,
    /// Its entries, in the ledger's order.
    pub entries: Vec<Proven>,
    /// Entries about the sampling epoch of the action's draw: its commitment and, once it has closed, its key.
    pub epochs: Vec<Proven>,
    /// The policies that evaluated it.
    pub policies: Vec<String>,
    /// What was approved or executed, unless it was erased.
    pub contents: Vec<Content>,
    /// What tools answered, unless it was erased.
    pub results: Vec<Answer>,
    /// What reviewers and auditors signed.
    pub statements: Vec<SignedBy>,
    /// What was erased, as [`Bundle::erasures`] describes it.
    pub erased: Vec<String>,
}

/// An entry and the proof that it is in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// Its index.
    pub index: u64,
    /// The entry.
    pub entry: Value,
    /// The inclusion proof: hashes in base64.
    pub proof: Vec<String>,
}

/// The content behind a digest in the entries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// 128 bits in base64.
    pub salt: String,
    /// Tool, arguments, agent and target.
    pub content: Value,
}

/// What a tool answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// 128 bits in base64.
    pub salt: String,
    /// The answer as it came.
    pub text: String,
}

/// A signed statement and the key that signed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    /// The compact JWS.
    pub jws: String,
    /// The values behind the digests in it, unless they were erased.
    pub disclosures: Vec<String>,
    /// The Ed25519 public key: `x` of its JWK.
    pub key: String,
}

/// What a valid bundle proves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// The action.
    pub action: ActionId,
    /// The log's name.
    pub origin: String,
    /// The size of the ledger under whose checkpoint it was proved.
    pub size: u64,
    /// The entries, as index and type.
    pub entries: Vec<(u64, String)>,
    /// Its state after the last of these entries that has one.
    pub state: String,
    /// How many decisions and findings have a valid signature.
    pub signatures: usize,
    /// `none`: no draw has been made. `committed`: the epoch's key is not published yet. `proved`: repeated with the
    /// epoch's key, the draw has the same result.
    pub sampling: String,
    /// What was erased.
    pub erased: Vec<String>,
}

fn wrong<T>(part: impl Into<String>, why: impl Into<String>) -> Result<T, LedgerError> {
    Err(LedgerError::Bundle { part: part.into(), why: why.into() })
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

impl Proven {
    /// An entry with its proof.
    pub fn new(index: u64, entry: &[u8], proof: &[Hash]) -> Result<Self, LedgerError> {
        let entry = parse_strict(entry).map_err(|error| LedgerError::Bundle {
            part: format!("entry {index}"),
            why: error.to_string(),
        })?;
        Ok(Self { index, entry, proof: proof.iter().map(|hash| BASE64.encode(hash)).collect() })
    }

    fn kind(&self) -> &str {
        text(&self.entry, "/type")
    }

    fn part(&self) -> String {
        format!("entry {}", self.index)
    }

    fn check(&self, checkpoint: &Checkpoint) -> Result<(), LedgerError> {
        let hash = |text: &String| BASE64.decode(text).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let proof: Option<Vec<Hash>> = self.proof.iter().map(hash).collect();
        let (Some(proof), Ok(bytes)) = (proof, canonical(&self.entry)) else {
            return wrong(self.part(), "its proof cannot be read");
        };
        verify_inclusion(&bytes, self.index, checkpoint.size, &checkpoint.root, &proof)
    }
}

/// The digest of bytes under a salt in base64.
fn digest(salt: &str, bytes: &[u8]) -> Option<String> {
    Some(tagged(&salted(&BASE64.decode(salt).ok()?.try_into().ok()?, bytes)))
}

impl Bundle {
    /// Reads a bundle strictly.
    ///
    /// # Errors
    /// If it is not JSON, or has unknown members.
    pub fn read(bytes: &[u8]) -> Result<Self, LedgerError> {
        let unreadable = |why: String| LedgerError::Bundle { part: "the bundle cannot be read".into(), why };
        let value = parse_strict(bytes).map_err(|error| unreadable(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| unreadable(error.to_string()))
    }

    /// What was erased, according to these entries.
    pub fn erasures(entries: &[Proven]) -> Vec<String> {
        let describe = |entry: &Proven| {
            let parts =
                entry.entry.pointer("/details/parts").and_then(Value::as_array).cloned().unwrap_or_default();
            let names: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            format!("{} on {}", names.join(", "), text(&entry.entry, "/occurred_at"))
        };
        entries.iter().filter(|entry| entry.kind() == ERASED).map(describe).collect()
    }

    /// Checks everything, with nothing but the log's public key.
    ///
    /// # Errors
    /// The first part that is invalid, and why.
    pub fn check(&self, key: &LogKey) -> Result<Checked, LedgerError> {
        if self.format != FORMAT {
            return wrong("format", format!("it is {:?}; this program reads {FORMAT:?}", self.format));
        }
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        for entry in self.entries.iter().chain(&self.epochs) {
            entry.check(&checkpoint)?;
        }
        self.chain()?;
        let erased = Self::erasures(&self.entries);
        if erased != self.erased {
            return wrong("erased", "it does not match the entries");
        }
        self.policies()?;
        self.contents(!erased.is_empty())?;
        self.results(!erased.is_empty())?;
        let signatures = self.statements(!erased.is_empty())?;
        let sampling = self.sampling()?.to_owned();
        Ok(Checked {
            action: self.action,
            origin: checkpoint.origin,
            size: checkpoint.size,
            entries: self.entries.iter().map(|entry| (entry.index, entry.kind().to_owned())).collect(),
            state: self.state(),
            signatures,
            sampling,
            erased,
        })
    }

    /// The action's state after its last entry that has one.
    fn state(&self) -> String {
        let state = |entry: &Proven| {
            let states = ["/state", "/execution/status"].map(|at| text(&entry.entry, at).to_owned());
            states.into_iter().find(|state| !state.is_empty())
        };
        let moves = self.entries.iter().rev().filter(|entry| entry.kind().starts_with("action."));
        moves.filter_map(state).next().unwrap_or_default()
    }

    /// Each entry is about the action and names the one before: none is missing between the first and the last.
    fn chain(&self) -> Result<(), LedgerError> {
        if self.entries.is_empty() || self.count != self.entries.len() {
            return wrong("count", format!("{} entries instead of {}", self.entries.len(), self.count));
        }
        let (mut before, mut last): (&str, Option<u64>) = ("", None);
        for entry in &self.entries {
            if text(&entry.entry, "/action/id") != self.action.to_string() {
                return wrong(entry.part(), format!("it is not about the action {}", self.action));
            }
            if last.is_some_and(|last| entry.index <= last) {
                return wrong(entry.part(), "it is out of order");
            }
            if text(&entry.entry, "/previous") != before {
                return wrong(entry.part(), "the action's previous entry is missing");
            }
            (before, last) = (text(&entry.entry, "/id"), Some(entry.index));
        }
        Ok(())
    }

    /// The digests at `pointer` in the entries of a kind, with the index of the first such entry.
    fn named(&self, kind: &str, pointer: &str) -> BTreeMap<&str, u64> {
        let of_kind = self.entries.iter().filter(|entry| entry.kind() == kind);
        let named = of_kind.map(|entry| (text(&entry.entry, pointer), entry.index));
        named.filter(|(digest, _)| !digest.is_empty()).rev().collect()
    }

    fn policies(&self) -> Result<(), LedgerError> {
        let mut named = self.named(Kind::ActionEvaluated.as_str(), "/policy/digest");
        for policy in &self.policies {
            let digest = tagged(&Sha256::digest(policy));
            if named.remove(digest.as_str()).is_none() {
                return wrong("policies", format!("no entry refers to the policy with digest {digest}"));
            }
        }
        match named.pop_first() {
            Some((digest, index)) => {
                wrong(format!("entry {index}"), format!("the policy {digest} is missing"))
            }
            None => Ok(()),
        }
    }

    fn contents(&self, erased: bool) -> Result<(), LedgerError> {
        let mut named = self.named(Kind::ActionEvaluated.as_str(), "/action/digest");
        for content in &self.contents {
            let bytes = canonical(&content.content).ok();
            let Some(digest) = bytes.and_then(|bytes| digest(&content.salt, &bytes)) else {
                return wrong("contents", "a salt cannot be read");
            };
            if named.remove(digest.as_str()).is_none() {
                return wrong("contents", format!("the content with digest {digest} is in no entry"));
            }
        }
        // Content that an edit replaced is no longer stored; the content of the last evaluation must be.
        let evaluations =
            self.entries.iter().rev().filter(|entry| entry.kind() == Kind::ActionEvaluated.as_str());
        let last =
            evaluations.map(|entry| text(&entry.entry, "/action/digest")).find(|digest| !digest.is_empty());
        match last.and_then(|last| named.get(last)) {
            Some(index) if !erased => {
                wrong(format!("entry {index}"), "its content is missing and was not erased")
            }
            _ => Ok(()),
        }
    }

    fn results(&self, erased: bool) -> Result<(), LedgerError> {
        let mut named = self.named(Kind::ActionCompleted.as_str(), "/execution/effect_digest");
        for result in &self.results {
            let Some(digest) = digest(&result.salt, result.text.as_bytes()) else {
                return wrong("results", "a salt cannot be read");
            };
            if named.remove(digest.as_str()).is_none() {
                return wrong("results", format!("the result with digest {digest} is in no entry"));
            }
        }
        match named.pop_first() {
            Some((_, index)) if !erased => {
                wrong(format!("entry {index}"), "its result is missing and was not erased")
            }
            _ => Ok(()),
        }
    }

    /// Returns how many decisions and findings have a valid signature.
    fn statements(&self, erased: bool) -> Result<usize, LedgerError> {
        let mut known: BTreeMap<String, SignedStatements> = BTreeMap::new();
        for statement in &self.statements {
            let (digest, received) = signature(statement, erased)?;
            if known.insert(digest, received).is_some() {
                return wrong("statements", "a statement is repeated");
            }
        }
        let mut used = BTreeSet::new();
        let kinds = [Kind::DecisionRecorded.as_str(), Kind::FindingRecorded.as_str()];
        let recorded = self.entries.iter().filter(|entry| kinds.contains(&entry.kind()));
        let mut signatures = 0;
        for entry in recorded {
            let review = |member: &str| text(&entry.entry, &format!("/review/{member}"));
            let Some(statement) = known.get(review("signed/digest")) else {
                return wrong(entry.part(), "the statement of its decision or finding is missing");
            };
            if !statement.matches(&review) {
                return wrong(entry.part(), "its decision or finding does not match the statement");
            }
            signatures += 1;
            used.insert(review("signed/digest"));
        }
        match known.keys().find(|digest| !used.contains(digest.as_str())) {
            Some(digest) => wrong("statements", format!("no entry refers to the one with digest {digest}")),
            None => Ok(signatures),
        }
    }

    /// Repeats the sampling draw.
    fn sampling(&self) -> Result<&'static str, LedgerError> {
        let of = |kind: &str, epoch: Option<i64>| {
            let about = |entry: &&Proven| {
                entry.kind() == kind && entry.entry.pointer("/details/epoch").and_then(Value::as_i64) == epoch
            };
            self.epochs.iter().find(about)
        };
        let Some(sampled) = self.entries.iter().find(|entry| entry.kind() == Kind::ActionSampled.as_str())
        else {
            return if self.epochs.is_empty() {
                Ok("none")
            } else {
                wrong("epochs", "no draw was made in them")
            };
        };
        let epoch = sampled.entry.pointer("/sampling/epoch").and_then(Value::as_i64);
        let Some(opened) = of(Kind::EpochOpened.as_str(), epoch) else {
            return wrong(sampled.part(), "the commitment to its epoch is missing");
        };
        let closed = of(Kind::EpochClosed.as_str(), epoch);
        if self.epochs.len() != 1 + usize::from(closed.is_some()) {
            return wrong("epochs", "there are entries about other epochs");
        }
        let Some(closed) = closed else { return Ok("committed") };
        let Some(key) = untagged(&format!("sha256:{}", text(&closed.entry, "/details/key"))) else {
            return wrong(closed.part(), "the epoch's key cannot be read");
        };
        if tagged(&keyed::commitment(&key)) != text(&opened.entry, "/details/commitment") {
            return wrong(closed.part(), "the epoch's key does not match the commitment");
        }
        let pi = sampled.entry.pointer("/sampling/pi").and_then(Value::as_f64).unwrap_or(f64::NAN);
        let (source, id) = (text(&sampled.entry, "/action/source"), text(&sampled.entry, "/action/event"));
        let draw = keyed::draw(&key, source, id, pi);
        let selected = sampled.entry.pointer("/sampling/selected").and_then(Value::as_bool);
        if draw.r.to_string() != text(&sampled.entry, "/sampling/r") || Some(draw.selected) != selected {
            return wrong(sampled.part(), "repeated with the epoch's key, the draw has another result");
        }
        Ok("proved")
    }
}

/// A statement with a valid signature.
enum SignedStatements {
    Decisions(Received<DecisionData>),
    Findings(Received<FindingData>),
}

impl SignedStatements {
    /// Whether an entry's review matches the statement.
    fn matches<'e>(&self, review: &impl Fn(&str) -> &'e str) -> bool {
        match self {
            SignedStatements::Decisions(received) => {
                received.kid == review("signed/kid")
                    && received.entries.iter().zip(&received.corrections).any(|(one, corrected)| {
                        one.approval.to_string() == review("approval")
                            && one.digest == review("digest_shown")
                            && one.decision.as_str() == review("decision")
                            && corrected.as_deref().unwrap_or_default() == review("correction_digest")
                    })
            }
            SignedStatements::Findings(received) => {
                received.kid == review("signed/kid")
                    && received.entries.iter().zip(&received.corrections).any(|(one, corrected)| {
                        one.audit.to_string() == review("audit")
                            && one.digest == review("digest_shown")
                            && one.finding.as_str() == review("finding")
                            && corrected.as_deref().unwrap_or_default() == review("correction_digest")
                            && one.severity.map_or("", |severity| severity.as_str()) == review("severity")
                    })
            }
        }
    }
}

/// A statement and its digest, if the signature is valid.
fn signature(statement: &SignedBy, erased: bool) -> Result<(String, SignedStatements), LedgerError> {
    let digest = statement_digest(&statement.jws);
    let part = format!("the statement {digest}");
    let signed = SignedStatement { jws: statement.jws.clone(), disclosures: statement.disclosures.clone() };
    // The header names the kind of statement, so that neither can pass for the other.
    let statements = match Received::<FindingData>::read(&signed) {
        Ok(received) => SignedStatements::Findings(verified(received, statement, part, erased)?),
        Err(_) => match Received::<DecisionData>::read(&signed) {
            Ok(received) => SignedStatements::Decisions(verified(received, statement, part, erased)?),
            Err(error) => return wrong(part, error.to_string()),
        },
    };
    Ok((digest, statements))
}

fn verified<T: Signable>(
    received: Received<T>,
    statement: &SignedBy,
    part: String,
    erased: bool,
) -> Result<Received<T>, LedgerError> {
    let key = BASE64_URL.decode(&statement.key).ok().and_then(|key| key.try_into().ok());
    let Some(key) = key.and_then(|key| VerifyingKey::from_bytes(&key).ok()) else {
        return wrong(part, "its key cannot be read");
    };
    if thumbprint(&key) != received.kid || !received.verify(&key) {
        return wrong(part, "the key did not sign it");
    }
    let known: BTreeSet<String> = received.disclosures.iter().map(|one| disclosure_digest(one)).collect();
    let all: BTreeSet<String> = statement.disclosures.iter().map(|one| disclosure_digest(one)).collect();
    if known != all || all.len() != statement.disclosures.len() {
        return wrong(part, "the disclosures are not those that were signed");
    }
    if !received.disclosed && !erased {
        return wrong(part, "a disclosure is missing and was not erased");
    }
    Ok(received)
}
