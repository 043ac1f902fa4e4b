use super::*;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn raw(n: u128) -> Box<RawValue> {
    let permit = Permit {
        permit: PermitId(uuid::Uuid::from_u128(n)),
        action: ActionId(uuid::Uuid::from_u128(n)),
        reference: ActionRef { source: "/agents/a".into(), id: n.to_string() },
        digest: "sha256:00".into(),
        target: Target { tool: "t".into(), version: "v".into(), endpoint: "POST http://t".into() },
        generation: 1,
        issued_at: DateTime::UNIX_EPOCH,
        expires_at: DateTime::UNIX_EPOCH,
    };
    serde_json::value::to_raw_value(&permit).unwrap()
}

fn pack(count: u128) -> PermitPack {
    PermitPack::sign((0..count).map(raw).collect(), &key())
}

#[test]
fn a_signed_pack_opens_with_its_key() {
    let permits = pack(64).open(&[key().verifying_key()]).unwrap();
    assert_eq!(permits.len(), 64);
    assert_eq!(permits[3].reference.id, "3");
}

#[test]
fn a_pack_survives_the_wire_byte_for_byte() {
    let wire = serde_json::to_vec(&pack(3)).unwrap();
    let back: PermitPack = serde_json::from_slice(&wire).unwrap();
    assert!(back.open(&[key().verifying_key()]).is_ok());
}

#[test]
fn a_pack_with_a_permit_removed_swapped_added_or_changed_does_not_open() {
    let keys = [key().verifying_key()];
    let refused = |pack: PermitPack| assert_eq!(pack.open(&keys).unwrap_err(), PermitRefusal::BadSignature);

    let mut truncated = pack(3);
    truncated.permits.pop();
    refused(truncated);
    let mut swapped = pack(3);
    swapped.permits.swap(0, 1);
    refused(swapped);
    let mut added = pack(3);
    added.permits.push(raw(9));
    refused(added);
    let mut changed = pack(3);
    changed.permits[1] = raw(9);
    refused(changed);
    refused(PermitPack { signature: "AAAA".into(), ..pack(1) });
}

#[test]
fn a_truncated_or_altered_pack_does_not_open() {
    let keys = [key().verifying_key()];
    let whole = serde_json::to_vec(&pack(2)).unwrap();
    let opens =
        |bytes: &[u8]| serde_json::from_slice::<PermitPack>(bytes).is_ok_and(|pack| pack.open(&keys).is_ok());
    assert!(opens(&whole));
    for at in 0..whole.len() {
        assert!(!opens(&whole[..at]), "cut at {at}");
        let mut changed = whole.clone();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        assert!(!opens(&changed), "changed at {at}");
    }
    // The permits of one pack with the signature of another.
    let (one, two) = (pack(1), pack(2));
    for (signature, permits) in [(&two, &one), (&one, &two)] {
        let mixed = PermitPack { permits: permits.permits.clone(), ..signature.clone() };
        assert_eq!(mixed.open(&keys).unwrap_err(), PermitRefusal::BadSignature);
    }
}

#[test]
fn a_signature_over_other_bytes_signs_no_permit() {
    let keys = [key().verifying_key()];
    let permits = vec![raw(1)];
    let context = signed_bytes(permits.iter().map(|permit| permit.get()));
    for other in
        [permits[0].get().as_bytes(), &context[CONTEXT.len()..], b"countersign/permit-pack/v1\0".as_slice()]
    {
        let signature = BASE64.encode(key().sign(other).to_bytes());
        let pack = PermitPack { key: key_id(&key().verifying_key()), signature, permits: permits.clone() };
        assert_eq!(pack.open(&keys).unwrap_err(), PermitRefusal::BadSignature);
    }
}

#[test]
fn a_pack_with_another_key_or_an_invalid_size_does_not_open() {
    let other = SigningKey::from_bytes(&[6; 32]).verifying_key();
    assert!(matches!(pack(1).open(&[other]).unwrap_err(), PermitRefusal::UnknownKey(_)));
    assert!(matches!(pack(0).open(&[key().verifying_key()]).unwrap_err(), PermitRefusal::Size(0)));
    assert!(matches!(pack(65).open(&[key().verifying_key()]).unwrap_err(), PermitRefusal::Size(65)));
}
