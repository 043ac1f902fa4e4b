//! Statements that people have signed, or are said to have.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use countersign_core::signed::{Received, Signable, SignedStatement, Signer, thumbprint};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{NOW, event, key};

/// Reads an event with a statement as it comes off the wire; or, where it is no object, header, payload, signature and
/// disclosures, one a line, as they are before base64: what is encoded is hard to guess.
pub fn look<T: Signable + Serialize>(data: &[u8]) {
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
    // Nobody has this key, so nothing can be signed with it: what holds is forged.
    assert!(!received.verify(&key().verifying_key()), "forged: {}", signed.jws);
    assert!(!received.jti.is_empty() && !received.kid.is_empty());
    assert_eq!(received.entries.len(), received.corrections.len());
    let sent: BTreeSet<&String> = signed.disclosures.iter().collect();
    assert!(received.disclosures.iter().all(|one| sent.contains(one)));
    // What was read, signed in earnest, is read back as the same.
    let mut salt = 0_u8;
    let ours = Signer::new(&received.signer, key()).sign(&received.entries, Uuid::from_u128(1), NOW, || {
        salt = salt.wrapping_add(1);
        [salt; 16]
    });
    let ours = ours.expect("what was read can be signed");
    let again = Received::<T>::read(&ours).expect("and read again");
    assert!(again.verify(&key().verifying_key()) && again.disclosed);
    assert_eq!(
        (again.signer.as_str(), again.kid),
        (received.signer.as_str(), thumbprint(&key().verifying_key()))
    );
    let said = |entries: &[T]| serde_json::to_value(said).expect("it can be written");
    assert_eq!(said(&again.entries), said(&received.entries));
}
