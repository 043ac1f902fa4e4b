//! Whole deliveries: properties, headers and body, at every door. A broker passes on whatever its sender has written between the
//! lengths, so whatever stands there must be parsed, within a bounded depth.
#![no_main]

use amq_protocol::{
    frame::parsing::parse_content_header,
    types::{AMQPValue, FieldTable, parsing::MAX_DEPTH},
};
use countersign_core::{
    attempt::Attempt,
    message::{DecisionData, FindingData},
    proposal,
    signed::{Received, SignedStatement},
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

/// The properties in the order of the specification: the short strings, the headers, and the numbers with their sizes.
const PROPERTIES: [Option<usize>; 14] = [
    None,    // content_type
    None,    // content_encoding
    Some(0), // headers
    Some(1), // delivery_mode
    Some(1), // priority
    None,    // correlation_id
    None,    // reply_to
    None,    // expiration
    None,    // message_id
    Some(8), // timestamp
    None,    // type
    None,    // user_id
    None,    // app_id
    None,    // cluster_id
];

/// A content header as a broker writes it: the lengths are right, and anything stands between them.
fn header(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let (mut flags, mut values) = (0_u16, Vec::new());
    for (index, kind) in PROPERTIES.into_iter().enumerate() {
        if !input.arbitrary::<bool>()? {
            continue;
        }
        flags |= 1 << (15 - index);
        match kind {
            None => {
                let length = input.arbitrary::<u8>()?;
                let text = input.bytes(usize::from(length).min(input.len()))?;
                values.push(text.len() as u8);
                values.extend(text);
            }
            Some(0) => {
                let length = usize::from(input.arbitrary::<u16>()?).min(input.len());
                values.extend((length as u32).to_be_bytes());
                values.extend(input.bytes(length)?);
            }
            Some(size) => values.extend(input.bytes(size)?),
        }
    }
    let mut header = vec![0, 60, 0, 0];
    header.extend([0; 8]);
    header.extend(flags.to_be_bytes());
    header.extend(values);
    Ok(header)
}

fn depth(table: &FieldTable) -> usize {
    table.inner().values().map(value_depth).max().unwrap_or_default()
}

fn value_depth(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::FieldTable(table) => 1 + depth(table),
        AMQPValue::FieldArray(array) => 1 + array.as_slice().iter().map(value_depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(header) = header(&mut input) else { return };
    let (rest, header) = parse_content_header(header.as_slice()).expect("what a broker passes on is parsed");
    assert!(rest.is_empty());
    if let Some(headers) = header.properties.headers() {
        assert!(depth(headers) <= MAX_DEPTH);
    }
    let body = input.take_rest();
    let _ = proposal::decode(body, 256 * 1024);
    let _ = Attempt::of_amqp(body);
    if let Ok(signed) = serde_json::from_slice::<SignedStatement>(body) {
        let _ = Received::<DecisionData>::read(&signed);
        let _ = Received::<FindingData>::read(&signed);
    }
});
