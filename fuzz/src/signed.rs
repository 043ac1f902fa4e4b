//! Signed statements of people, genuine or forged.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use countersign_core::signed::{Received, Signable, SignedStatement, Signer, thumbprint};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{NOW, event, key};

/// Parses a statement from an event as it arrives. If the input is not an object, its lines are the header, payload,
/// signature and disclosures before base64 encoding, because a fuzzer hardly ever finds valid base64 of valid JSON.
pub fn parse<T: Signable + Serialize>(data: &[u8]) {
    if data.first() == Some(&b'{') {
        let Some(event) = event::<Value>(data) else { return };
        if let Ok(signed) = serde_json::from_value::<SignedStatement>(event.data) {
            received::<T>(&signed);
        }
        return;
    }
    let mut lines = data.split(|byte| *byte == b'\n').map(|line| BASE64.encode(line));
    let mut line = || lines.next().unwrap_or_default();
    let jws = format!("{}.{}.{}", line(), line(), line());
    received::<T>(&SignedStatement { jws, disclosures: lines.collect() });
}

fn received<T: Signable + Serialize>(signed: &SignedStatement) {
    let Ok(received) = Received::<T>::read(signed) else { return };
    // No input can be signed with this key, so a signature that verifies is forged.
    assert!(!received.verify(&key().verifying_key()), "forged: {}", signed.jws);
    assert!(!received.jti.is_empty() && !received.kid.is_empty());
    assert_eq!(received.entries.len(), received.corrections.len());
    let sent: BTreeSet<&String> = signed.disclosures.iter().collect();
    assert!(received.disclosures.iter().all(|one| sent.contains(one)));
    // The same entries, signed with the key, are parsed as the same.
    let mut salt = 0_u8;
    let ours = Signer::new(&received.signer, key()).sign(&received.entries, Uuid::from_u128(1), NOW, || {
        salt = salt.wrapping_add(1);
        [salt; 16]
    });
    let ours = ours.expect("parsed entries can be signed");
    let again = Received::<T>::read(&ours).expect("a signed statement can be parsed");
    assert!(again.verify(&key().verifying_key()) && again.disclosed);
    assert_eq!(
        (again.signer.as_str(), again.kid),
        (received.signer.as_str(), thumbprint(&key().verifying_key()))
    );
    let json = |entries: &[T]| serde_json::to_value(entries).expect("entries can be serialized");
    assert_eq!(json(&again.entries), json(&received.entries));
}
