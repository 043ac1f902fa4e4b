//! Checkpoints as C2SP signed notes: origin, size and root, signed with Ed25519; others may add signatures.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::{Hash, LedgerError, SIZE_MAX};

/// The algorithm byte of a plain Ed25519 signature.
const ED25519: u8 = 1;

/// The most signatures that a note may have.
const SIGNATURES_MAX: usize = 64;

/// The content of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's unique name; also the name of its key.
    pub origin: String,
    /// The number of entries of the log.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
}

/// A log's public key, with the name that it signs under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogKey {
    name: String,
    key: VerifyingKey,
}

/// A name is not empty, and contains neither white space nor a plus.
fn valid(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

impl LogKey {
    /// A key and its name.
    pub fn new(name: &str, key: VerifyingKey) -> Result<Self, LedgerError> {
        if !valid(name) {
            return Err(LedgerError::Key(format!(
                "{name:?} is not a name: it must not be empty or contain white space or +"
            )));
        }
        Ok(Self { name: name.into(), key })
    }

    /// Parses a verifier key of signed-note, `name+hash+base64`, the form that other tools take.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let wrong = |why: &str| {
            LedgerError::Key(format!("{why}; write name+hash+key as `countersign ledger key` does"))
        };
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("it has fewer than three parts"));
        };
        let bytes = BASE64.decode(key).map_err(|_| wrong("its last part is not base64"))?;
        let Some((&ED25519, key)) = bytes.split_first() else {
            return Err(wrong("it is not an Ed25519 key"));
        };
        let key: [u8; 32] = key.try_into().map_err(|_| wrong("the key does not have 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| wrong("the key is not a point on the curve"))?;
        let key = Self::new(name, key)?;
        if id != format!("{:08x}", key.id()) {
            return Err(wrong("its hash does not match the name and key"));
        }
        Ok(key)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
    fn id(&self) -> u32 {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE64.encode([&[ED25519], self.key.as_bytes().as_slice()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, self.id())
    }
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`LedgerError::Key`] where the origin cannot be the name of a key.
    pub fn sign(&self, key: &SigningKey) -> Result<String, LedgerError> {
        let name = LogKey::new(&self.origin, key.verifying_key())?;
        let text = self.text();
        let signature = key.sign(text.as_bytes());
        let signature = BASE64.encode([name.id().to_be_bytes().as_slice(), &signature.to_bytes()].concat());
        Ok(format!("{text}\n\u{2014} {} {signature}\n", self.origin))
    }

    /// Reads a note without checking its signatures.
    pub fn read(note: &str) -> Result<Self, LedgerError> {
        Self::of_text(split(note)?.0)
    }

    /// Reads a note that `key` has signed. Other signatures are not checked.
    ///
    /// # Errors
    /// If it is unreadable, not signed by this log, or changed after it was signed.
    pub fn open(note: &str, key: &LogKey) -> Result<Self, LedgerError> {
        let (text, signatures) = split(note)?;
        let ours =
            |line: &&(String, Vec<u8>)| line.0 == key.name && line.1.starts_with(&key.id().to_be_bytes());
        let mut signatures = signatures.iter().filter(ours);
        let (Some((_, signature)), None) = (signatures.next(), signatures.next()) else {
            return Err(LedgerError::Unsigned(key.name.clone()));
        };
        let forged = || LedgerError::Forged(key.name.clone());
        let signature = Signature::from_slice(&signature[4..]).map_err(|_| forged())?;
        key.key.verify_strict(text.as_bytes(), &signature).map_err(|_| forged())?;
        let checkpoint = Self::of_text(text)?;
        if checkpoint.origin != key.name {
            return Err(LedgerError::Note(format!(
                "its origin is {:?}, not {:?}",
                checkpoint.origin, key.name
            )));
        }
        Ok(checkpoint)
    }

    fn of_text(text: &str) -> Result<Self, LedgerError> {
        let wrong = |why: &str| LedgerError::Note(why.into());
        let mut lines = text.split('\n');
        let mut line = |what: &str| lines.next().filter(|line| !line.is_empty()).ok_or_else(|| wrong(what));
        let origin = line("it has no origin")?.to_owned();
        let digits = line("it has no size")?;
        let size: u64 = digits.parse().map_err(|_| wrong("its size is not a number"))?;
        if size.to_string() != digits || size > SIZE_MAX {
            return Err(wrong("its size is out of range or not in canonical form"));
        }
        let encoded = line("it has no root")?;
        let root = BASE64.decode(encoded).map_err(|_| wrong("its root is not base64"))?;
        let root = root.try_into().map_err(|_| wrong("its root does not have 32 bytes"))?;
        Ok(Self { origin, size, root })
    }
}

/// Adds the signature line of a witness: `— name base64` without a newline. The signature is not verified.
pub fn cosigned(note: &str, line: &str) -> Result<String, LedgerError> {
    let note = format!("{note}{line}\n");
    split(&note)?;
    Ok(note)
}

/// A note's signatures: names, and key hash and signature.
type Signatures = Vec<(String, Vec<u8>)>;

/// The text of a note, with its last newline, and its signatures.
fn split(note: &str) -> Result<(&str, Signatures), LedgerError> {
    let wrong = |why: &str| LedgerError::Note(why.into());
    if note.chars().any(|c| c != '\n' && c.is_control()) {
        return Err(wrong("a note has no control characters"));
    }
    let at = note.rfind("\n\n").ok_or_else(|| wrong("it has no signatures"))?;
    let (text, lines) = (&note[..=at], &note[at + 2..]);
    let lines = lines.strip_suffix('\n').ok_or_else(|| wrong("its last line has no newline"))?;
    let signature = |line: &str| {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let signature = BASE64.decode(signature).ok()?;
        (valid(name) && signature.len() > 4).then(|| (name.to_owned(), signature))
    };
    let signatures: Option<Signatures> = lines.split('\n').take(SIGNATURES_MAX + 1).map(signature).collect();
    match signatures {
        Some(signatures) if signatures.len() <= SIGNATURES_MAX => Ok((text, signatures)),
        _ => Err(wrong("the lines after the text are not signatures")),
    }
}
