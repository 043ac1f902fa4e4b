//! What is derived from secrets: pseudonyms of people, and the sampling draws.

pub mod gold;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::digest::hex;

/// A secret of at least 32 bytes from which keys are derived. Never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// A secret that is too short to derive keys from.
#[derive(Debug, thiserror::Error)]
#[error("a secret needs at least 32 bytes, this one has {0}; create one with `head -c 32 /dev/urandom`")]
pub struct ShortSecret(usize);

impl Secret {
    /// A secret of these bytes.
    ///
    /// # Errors
    /// If there are fewer than 32.
    pub fn new(bytes: Vec<u8>) -> Result<Self, ShortSecret> {
        if bytes.len() < 32 {
            return Err(ShortSecret(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// HKDF-SHA256 (RFC 5869) without salt, 32 bytes.
    fn derive(&self, info: &[&[u8]]) -> [u8; 32] {
        let mut key = [0; 32];
        // 32 bytes are within HKDF's limit of 255 hashes, so this cannot fail.
        let _ = Hkdf::<Sha256>::new(None, &self.0).expand_multi_info(info, &mut key);
        key
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // RFC 2104 pads a short key with zeros to the block length, so padding it here changes nothing.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Names people in evidence without revealing who they are.
#[derive(Clone)]
pub struct Pseudonyms([u8; 32]);

impl Pseudonyms {
    /// Derives the key for pseudonyms.
    pub fn new(secret: &Secret) -> Self {
        Self(secret.derive(&[b"countersign/pseudonym-key/v1"]))
    }

    /// `p-` and 128 bits of HMAC-SHA256 in hex: a person always has the same pseudonym.
    pub fn of(&self, person: &str) -> String {
        let mac = hmac_sha256(&self.0, &[b"countersign/pseudonym/v1\0", person.as_bytes()]);
        format!("p-{}", hex(&mac[..16]))
    }
}

/// Decides by a keyed draw whether an executed action is audited: unpredictable for agents, reproducible for anyone
/// who has the epoch's key.
#[derive(Clone)]
pub struct KeyedSampler {
    secret: Secret,
}

/// One draw of the sampler, as stored for every executed action.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Inclusion probability π, 0 to 1.
    pub pi: f64,
    /// 56 bits, uniform.
    pub r: u64,
    /// Whether the action is audited.
    pub selected: bool,
}

impl KeyedSampler {
    /// A sampler over the master secret.
    pub fn new(secret: Secret) -> Self {
        Self { secret }
    }

    /// K_epoch: HKDF-SHA256 of the master secret.
    pub fn epoch_key(&self, epoch: i64) -> [u8; 32] {
        self.secret.derive(&[b"countersign/audit-epoch/v1\0", &epoch.to_be_bytes()])
    }

    /// Whether two auditors judge this audit, if a `share` of audits (0 to 1) is to be judged twice: a second draw over the same
    /// action.
    pub fn twice(&self, epoch: i64, source: &str, id: &str, share: f64) -> bool {
        let key = self.epoch_key(epoch);
        let mac =
            hmac_sha256(&key, &[b"countersign/audit-twice/v1\0", source.as_bytes(), b"\0", id.as_bytes()]);
        selected(top_56_bits(&mac), share)
    }

    /// The draw for one action in an epoch.
    pub fn draw(&self, epoch: i64, source: &str, id: &str, pi: f64) -> Draw {
        draw(&self.epoch_key(epoch), source, id, pi)
    }
}

/// The SHA-256 of an epoch's key, published when the epoch begins. The key itself is published when it has ended and lets
/// anyone repeat its draws.
pub fn commitment(key: &[u8; 32]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// R = top 56 bits of HMAC-SHA256(K_epoch, "countersign/audit-draw/v1" ‖ 0 ‖ source ‖ 0 ‖ id).
pub fn draw(key: &[u8; 32], source: &str, id: &str, pi: f64) -> Draw {
    let mac = hmac_sha256(key, &[b"countersign/audit-draw/v1\0", source.as_bytes(), b"\0", id.as_bytes()]);
    let r = top_56_bits(&mac);
    Draw { pi, r, selected: selected(r, pi) }
}

/// The first 56 bits.
fn top_56_bits(mac: &[u8]) -> u64 {
    mac.iter().take(7).fold(0_u64, |r, byte| r << 8 | u64::from(*byte))
}

/// R ≥ (1 − π)·2^56. Scaling by a power of two is exact in binary floating point, and since R is a whole
/// number, the threshold can be rounded up.
pub fn selected(r: u64, pi: f64) -> bool {
    let threshold = ((1.0 - pi.clamp(0.0, 1.0)) * (1_u64 << 56) as f64).ceil() as u64;
    r >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler() -> KeyedSampler {
        KeyedSampler::new(Secret::new(vec![7; 32]).unwrap())
    }

    #[test]
    fn a_draw_is_the_documented_hmac() {
        // printf 'countersign/audit-draw/v1\0/agents/a\0a-1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:<K_epoch>
        let mac = hmac_sha256(&sampler().epoch_key(3), &[b"countersign/audit-draw/v1\0/agents/a\0a-1"]);
        let draw = sampler().draw(3, "/agents/a", "a-1", 0.2);
        assert_eq!(draw.r.to_be_bytes()[1..], mac[..7]);
    }

    #[test]
    fn a_rate_of_one_selects_everything_and_zero_nothing() {
        assert!(selected(0, 1.0) && selected((1 << 56) - 1, 1.0));
        assert!(!selected(0, 0.0) && !selected((1 << 56) - 1, 0.0));
        assert!(selected(1 << 55, 0.5) && !selected((1 << 55) - 1, 0.5));
    }

    #[test]
    fn a_higher_rate_selects_a_superset() {
        for n in 0..2_000 {
            let low = sampler().draw(1, "/agents/a", &n.to_string(), 0.1).selected;
            let high = sampler().draw(1, "/agents/a", &n.to_string(), 0.3).selected;
            assert!(!low || high);
        }
    }

    #[test]
    fn a_person_has_one_pseudonym_per_key() {
        let one = Pseudonyms::new(&Secret::new(vec![1; 32]).unwrap());
        let other = Pseudonyms::new(&Secret::new(vec![2; 32]).unwrap());
        assert_eq!(one.of("mara"), one.of("mara"));
        assert_ne!(one.of("mara"), other.of("mara"));
        assert!(Secret::new(vec![0; 31]).is_err());
    }

    /// An agent that knows the ids of all its actions and which of the past were selected: for each feature of an id it
    /// learns how often ids with it were selected, and predicts the next by the sum.
    #[test]
    fn an_agent_that_knows_all_past_selections_predicts_no_better_than_chance() {
        use std::collections::HashMap;
        const ACTIONS: usize = 20_000;
        let sampler = sampler();
        let mut seen: HashMap<String, (f64, f64)> = HashMap::new();
        let features = |id: &str, before: &[bool]| {
            let mut features: Vec<String> = id.char_indices().map(|(at, c)| format!("{at}{c}")).collect();
            features.push(format!("last {:?}", before.iter().rev().take(4).collect::<Vec<_>>()));
            features.push(format!("parity {}", id.bytes().fold(0, |sum, byte| sum ^ byte)));
            features.push(format!("ends {}", &id[id.len() - 2..]));
            features
        };
        let (mut past, mut scored) = (Vec::with_capacity(ACTIONS), Vec::with_capacity(ACTIONS));
        for n in 0..ACTIONS {
            let id = format!("task-{}-{}", n / 7, n % 7);
            let features = features(&id, &past);
            let rate = |feature: &String| seen.get(feature).map_or(0.0, |(hits, all)| hits / all - 0.1);
            let score: f64 = features.iter().map(rate).sum();
            let selected = sampler.draw((n / 5_000) as i64, "/agents/a", &id, 0.1).selected;
            if n >= ACTIONS / 2 {
                scored.push((score, selected));
            }
            for feature in features {
                let (hits, all) = seen.entry(feature).or_insert((0.0, 0.0));
                *hits += f64::from(u8::from(selected));
                *all += 1.0;
            }
            past.push(selected);
        }
        // The area under the curve by ranks (Mann and Whitney 1947), ties at their middle rank; its variance by chance.
        scored.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut ranks, mut at) = (0.0, 0);
        while at < scored.len() {
            let same = scored[at..].iter().take_while(|other| other.0 == scored[at].0).count();
            let middle = at as f64 + (same as f64 + 1.0) / 2.0;
            ranks += middle * scored[at..at + same].iter().filter(|(_, selected)| *selected).count() as f64;
            at += same;
        }
        let hits = scored.iter().filter(|(_, selected)| *selected).count() as f64;
        let misses = scored.len() as f64 - hits;
        let area = (ranks - hits * (hits + 1.0) / 2.0) / (hits * misses);
        let spread = ((hits + misses + 1.0) / (12.0 * hits * misses)).sqrt();
        assert!((area - 0.5).abs() < 1.96 * spread, "{area} ± {:.4}", 1.96 * spread);
    }
}
