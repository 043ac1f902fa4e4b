//! Public keys of people and apps.

use chrono::{DateTime, Utc};
use ed25519_dalek::VerifyingKey;

/// A registered Ed25519 key and its period of validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its JWK thumbprint (RFC 7638): the `kid` of what it signs.
    pub kid: String,
    /// The Ed25519 public key.
    pub key: VerifyingKey,
    /// The start of its validity; unlimited if `None`.
    pub from: Option<DateTime<Utc>>,
    /// The end of its validity, exclusive; unlimited if `None`.
    pub until: Option<DateTime<Utc>>,
    /// When it was revoked. From then on none of its signatures are accepted, whenever they were made.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Why a registered key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRefusal {
    /// It has been revoked.
    Revoked,
    /// It is not valid yet, or no longer.
    NotValid,
}

impl PublicKey {
    /// Whether it is revoked at `now`.
    pub fn is_revoked(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_some_and(|revoked| revoked <= now)
    }

    /// Checks whether the key is accepted at `now`.
    ///
    /// # Errors
    /// The key is revoked, not valid yet, or no longer valid.
    pub fn check_validity(&self, now: DateTime<Utc>) -> Result<(), KeyRefusal> {
        if self.is_revoked(now) {
            return Err(KeyRefusal::Revoked);
        }
        let valid = self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until);
        if valid { Ok(()) } else { Err(KeyRefusal::NotValid) }
    }
}
