use super::*;
use crate::{
    ids::{ApprovalId, AuditId},
    message::{Decision, DecisionData, Finding, FindingData},
};

const NOW: DateTime<Utc> = DateTime::from_timestamp(1_790_000_000, 0).unwrap();

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn decision(decision: Decision, reason: Option<&str>, arguments: Option<Value>) -> DecisionData {
    DecisionData {
        approval: ApprovalId(Uuid::from_u128(7)),
        digest: "sha256:00".into(),
        decision,
        reason_code: None,
        reason: reason.map(str::to_owned),
        arguments,
    }
}

fn signed() -> SignedStatement {
    let decisions = [
        decision(Decision::Reject, Some("not covered"), None),
        decision(Decision::Edit, None, Some(json!({"amount": "5"}))),
    ];
    let mut salt = 0;
    let salts = || {
        salt += 1;
        [salt; 16]
    };
    Signer::new("sam", key(1)).sign(&decisions, Uuid::from_u128(9), NOW, salts).unwrap()
}

#[test]
fn the_thumbprint_is_that_of_rfc_8037() {
    // Appendix A.3.
    let x = BASE64.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let key = VerifyingKey::from_bytes(&x.try_into().unwrap()).unwrap();
    assert_eq!(thumbprint(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn the_signature_is_that_of_rfc_8037() {
    // Appendix A.4: the same key, header and payload give the same signature.
    let d = BASE64.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let key = SigningKey::from_bytes(&d.try_into().unwrap());
    let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signed = jws::sign(message, &key);
    assert_eq!(signed, format!("{message}.{signature}"));
    assert!(jws::verify(&signed, &key.verifying_key()));
}

#[test]
fn a_signed_statement_is_read_back_and_only_its_key_verifies() {
    let received = Received::<DecisionData>::read(&signed()).unwrap();
    assert_eq!((received.signer.as_str(), received.signed_at), ("sam", NOW));
    assert!(received.disclosed);
    assert_eq!(received.entries[0].reason.as_deref(), Some("not covered"));
    assert_eq!(received.entries[1].arguments, Some(json!({"amount": "5"})));
    assert_eq!(received.kid, thumbprint(&key(1).verifying_key()));
    assert!(received.verify(&key(1).verifying_key()));
    assert!(!received.verify(&key(2).verifying_key()));
}

#[test]
fn texts_and_arguments_are_not_signed_and_their_erasure_keeps_the_signature_valid() {
    let signed = signed();
    let payload = BASE64.decode(signed.jws.split('.').nth(1).unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap();
    assert!(!payload.contains("covered") && !payload.contains("amount"), "{payload}");
    let erased = Received::<DecisionData>::read(&SignedStatement { disclosures: vec![], ..signed }).unwrap();
    assert!(!erased.disclosed && erased.verify(&key(1).verifying_key()));
}

#[test]
fn a_disclosure_that_was_changed_is_not_the_one_that_was_signed() {
    let signed = signed();
    let other = disclose(&[1; 16], &json!("covered"));
    let changed = SignedStatement { disclosures: vec![other, signed.disclosures[1].clone()], ..signed };
    let received = Received::<DecisionData>::read(&changed).unwrap();
    assert!(!received.disclosed && received.entries[0].reason.is_none());
}

#[test]
fn no_byte_of_a_signed_statement_can_be_changed() {
    let signed = signed();
    let public = key(1).verifying_key();
    for (index, byte) in signed.jws.bytes().enumerate() {
        let mut jws = signed.jws.clone().into_bytes();
        jws[index] = if byte == b'A' { b'B' } else { b'A' };
        let changed = SignedStatement { jws: String::from_utf8(jws).unwrap(), disclosures: vec![] };
        let verifies =
            Received::<DecisionData>::read(&changed).is_ok_and(|received| received.verify(&public));
        assert!(!verifies, "byte {index}");
    }
}

#[test]
fn a_truncated_or_recombined_statement_does_not_verify() {
    let verifies = |jws: String| {
        let signed = SignedStatement { jws, disclosures: vec![] };
        Received::<DecisionData>::read(&signed).is_ok_and(|read| read.verify(&key(1).verifying_key()))
    };
    let one = signed().jws;
    assert!(verifies(one.clone()));
    for at in 0..one.len() {
        assert!(!verifies(one[..at].to_owned()), "cut at {at}");
    }
    let other = [decision(Decision::Approve, None, None)];
    let other = Signer::new("sam", key(1)).sign(&other, Uuid::from_u128(10), NOW, || [9; 16]).unwrap().jws;
    assert!(verifies(other.clone()));
    let part = |jws: &str, index: usize| jws.split('.').nth(index).unwrap().to_owned();
    for [header, payload, signature] in [[&one, &other, &one], [&one, &one, &other], [&other, &one, &other]] {
        assert!(!verifies(format!("{}.{}.{}", part(header, 0), part(payload, 1), part(signature, 2))));
    }
    for appended in [".", "=", " ", "\n", ".AAAA", "A"] {
        assert!(!verifies(format!("{one}{appended}")), "{appended:?}");
    }
}

#[test]
fn a_key_in_the_header_is_not_trusted() {
    let thief = key(66);
    let x = BASE64.encode(thief.verifying_key().as_bytes());
    let header = json!({
        "alg": "EdDSA", "typ": DecisionData::TYP, "kid": thumbprint(&key(1).verifying_key()),
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}, "jku": "https://example.com/keys", "x5u": "https://example.com/x",
    });
    let payload = json!({"reviewer": "sam", "jti": "1", "iat": NOW.timestamp(), "decisions": []});
    let signing = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(payload.to_string()));
    let jws = jws::sign(&signing, &thief);
    let read = Received::<DecisionData>::read(&SignedStatement { jws, disclosures: vec![] });
    assert!(!read.is_ok_and(|read| read.verify(&key(1).verifying_key())));
}

#[test]
fn a_finding_is_no_decision_and_a_decision_no_finding() {
    let decision = signed();
    assert!(Received::<FindingData>::read(&decision).is_err());
    let finding = FindingData::new(AuditId(Uuid::from_u128(7)), "sha256:00", Finding::Correct);
    let finding = Signer::new("sam", key(1)).sign(&[finding], Uuid::from_u128(9), NOW, || [1; 16]).unwrap();
    assert!(Received::<FindingData>::read(&finding).unwrap().verify(&key(1).verifying_key()));
    assert!(Received::<DecisionData>::read(&finding).is_err());
}

#[test]
fn a_key_of_small_order_verifies_nothing() {
    // The neutral element: with it, some signatures hold over any message unless the check is strict.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let Ok(weak) = VerifyingKey::from_bytes(&neutral) else { return };
    let mut signature = [0; 64];
    signature[0] = 1;
    let jws = signed().jws;
    let (signing, _) = jws.rsplit_once('.').unwrap();
    let forged =
        SignedStatement { jws: format!("{signing}.{}", BASE64.encode(signature)), disclosures: vec![] };
    assert!(!Received::<DecisionData>::read(&forged).unwrap().verify(&weak));
}

#[test]
fn another_type_algorithm_or_shape_is_no_signed_decision() {
    let part = |value: Value| BASE64.encode(value.to_string());
    let header = json!({"alg": "EdDSA", "typ": DecisionData::TYP, "kid": "k"});
    let payload = json!({"reviewer": "sam", "jti": "1", "iat": 1, "decisions": []});
    let read = |header: &Value, payload: &Value| {
        let jws = format!("{}.{}.AAAA", part(header.clone()), part(payload.clone()));
        Received::<DecisionData>::read(&SignedStatement { jws, disclosures: vec![] })
    };
    assert!(read(&header, &payload).is_ok());
    for (member, value) in [
        ("alg", json!("HS256")),
        ("alg", json!("none")),
        ("typ", json!("JWT")),
        ("kid", Value::Null),
        ("crit", json!(["b64"])),
    ] {
        let mut header = header.clone();
        header[member] = value.clone();
        assert!(read(&header, &payload).is_err(), "{member} {value}");
    }
    for (member, value) in
        [("jti", json!("")), ("iat", json!("now")), ("iat", json!(i64::MAX)), ("decisions", json!({}))]
    {
        let mut payload = payload.clone();
        payload[member] = value.clone();
        assert!(read(&header, &payload).is_err(), "{member} {value}");
    }
    for jws in ["", "a.b.c", "e30.e30.", "not a jws"] {
        assert!(
            Received::<DecisionData>::read(&SignedStatement { jws: jws.into(), disclosures: vec![] })
                .is_err()
        );
    }
}
