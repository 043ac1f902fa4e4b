//! The draw of gold items: audits of which the right finding is known. A second draw over each action that is audited, with
//! the same epoch's key.

use super::{hmac_sha256, selected, top_56_bits};
use crate::ids::AuditId;

/// What the key says of one audited action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoldDraw {
    r: u64,
    twice: u64,
    /// Whether the item should be one that is known to be wrong: half of them, so that few items tell much of both kinds.
    pub wrong: bool,
}

/// The draw for one action: HMAC-SHA256(K_epoch, "countersign/audit-gold/v1" ‖ 0 ‖ source ‖ 0 ‖ id).
pub fn draw(key: &[u8; 32], source: &str, id: &str) -> GoldDraw {
    let mac = hmac_sha256(key, &[b"countersign/audit-gold/v1\0", source.as_bytes(), b"\0", id.as_bytes()]);
    let [first, second] = [&mac[..7], &mac[7..14]].map(top_56_bits);
    GoldDraw { r: first, twice: second, wrong: mac[14] & 1 == 1 }
}

impl GoldDraw {
    /// Whether a gold item follows, if a `share` of audits (0 to 1) is followed by one.
    pub fn selects(&self, share: f64) -> bool {
        selected(self.r, share)
    }

    /// Whether two auditors judge it, if a `share` of audits is to be judged twice.
    pub fn twice(&self, share: f64) -> bool {
        selected(self.twice, share)
    }
}

/// Which of the earlier audits the item shows: the one with the smallest HMAC-SHA256(K_epoch,
/// "countersign/gold-choice/v1" ‖ 0 ‖ source ‖ 0 ‖ id ‖ 0 ‖ audit). `None` without candidates.
pub fn choose(key: &[u8; 32], source: &str, id: &str, candidates: &[AuditId]) -> Option<AuditId> {
    let mac = |audit: &AuditId| {
        let parts: [&[u8]; 6] = [
            b"countersign/gold-choice/v1\0",
            source.as_bytes(),
            b"\0",
            id.as_bytes(),
            b"\0",
            audit.0.as_bytes(),
        ];
        hmac_sha256(key, &parts)
    };
    candidates.iter().min_by_key(|audit| mac(audit)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn it_selects_its_share_whatever_the_draw_of_the_audit_was() {
        let mut selected = [0, 0];
        let mut wrong = 0;
        for n in 0..20_000 {
            let id = n.to_string();
            let draw = draw(&KEY, "/agents/a", &id);
            assert_eq!(draw, super::draw(&KEY, "/agents/a", &id));
            assert!(!draw.selects(0.0) && !draw.twice(0.0) && draw.selects(1.0));
            let audited = keyed::draw(&KEY, "/agents/a", &id, 0.5).selected;
            selected[usize::from(audited)] += u32::from(draw.selects(0.1));
            wrong += u32::from(draw.wrong);
        }
        // Five standard deviations of 10,000 draws at 0.1, and of 20,000 at a half.
        assert!(selected.iter().all(|n| (850..1_150).contains(n)), "{selected:?}");
        assert!((9_646..10_354).contains(&wrong), "{wrong}");
    }

    #[test]
    fn the_choice_does_not_depend_on_the_order_of_candidates_and_misses_none() {
        let candidates: Vec<AuditId> = (1..=8).map(|n| AuditId(uuid::Uuid::from_u128(n))).collect();
        let mut reversed = candidates.clone();
        reversed.reverse();
        let mut chosen = std::collections::BTreeSet::new();
        for n in 0..200 {
            let choice = choose(&KEY, "/agents/a", &n.to_string(), &candidates);
            assert_eq!(choice, choose(&KEY, "/agents/a", &n.to_string(), &reversed));
            chosen.extend(choice);
        }
        assert_eq!(chosen.len(), candidates.len());
        assert_eq!(choose(&KEY, "/agents/a", "1", &[]), None);
    }
}
