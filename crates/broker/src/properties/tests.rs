use lapin::types::{
    AMQPType,
    parsing::{MAX_DEPTH, parse_field_table, parse_short_string},
};

use super::*;

/// A table with one entry, as on the wire.
fn table(key: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    let mut entry = vec![key.len() as u8];
    entry.extend(key);
    entry.push(kind);
    entry.extend(value);
    counted(&entry)
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    let mut counted = (bytes.len() as u32).to_be_bytes().to_vec();
    counted.extend(bytes);
    counted
}

/// Arrays in arrays: five bytes for each level.
fn arrays(depth: usize) -> Vec<u8> {
    (1..depth).fold(counted(&[]), |inner, _| counted(&[b"A", inner.as_slice()].concat()))
}

fn parsed(bytes: &[u8]) -> FieldTable {
    parse_field_table(bytes).map(|(_, table)| table).unwrap_or_default()
}

#[test]
fn arrays_may_be_nested_as_deep_as_anybody_needs_and_no_deeper() {
    let read = |depth| parsed(&table(b"deep", b'A', &arrays(depth)));
    assert!(!is_unreadable(&read(1)) && !is_unreadable(&read(MAX_DEPTH)));
    for depth in [MAX_DEPTH + 1, 5_000, 25_000] {
        assert!(is_unreadable(&read(depth)), "{depth}");
    }
}

#[test]
fn tables_are_nested_no_deeper_either() {
    let tables = |depth| (0..depth).fold(counted(&[]), |inner, _| table(b"t", b'F', &inner));
    assert!(!is_unreadable(&parsed(&tables(MAX_DEPTH))));
    assert!(is_unreadable(&parsed(&tables(20_000))));
}

#[test]
fn bytes_that_are_not_utf8_are_marked() {
    let garbled = parse_short_string(&[2_u8, 0xFF, 0xFE][..]).map(|(_, text)| text).unwrap_or_default();
    assert!(is_garbled(&garbled));
    assert!(is_unreadable(&parsed(&table(&[0xFF], b't', &[1]))));
    assert!(!is_unreadable(&parsed(&table("schlüssel".as_bytes(), b't', &[1]))));
}

#[test]
fn the_longest_string_of_bytes_that_are_not_utf8_is_marked() {
    let longest = |valid: usize| {
        let bytes: Vec<u8> = [vec![255], vec![b'a'; valid], vec![0xFF; 255 - valid]].concat();
        parse_short_string(&bytes[..]).map(|(_, text)| text).unwrap_or_default()
    };
    for valid in 0..255 {
        let text = longest(valid);
        assert!(is_garbled(&text) && text.as_str().len() <= 255, "{valid}: {text}");
    }
    assert!(!is_garbled(&longest(255)));
    assert!(is_unreadable(&parsed(&table(&[0xFF; 255], b't', &[1]))));
}

#[test]
fn what_follows_an_unknown_type_is_not_taken_for_absent() {
    let unknown = table(b"x", b'?', &[0; 3]);
    assert_eq!(AMQPType::from_id('?'), None);
    assert!(is_unreadable(&parsed(&unknown)));
    // The frame after it is read as if nothing had happened.
    let followed = [unknown.as_slice(), b"rest"].concat();
    assert_eq!(parse_field_table(&followed[..]).map(|(rest, _)| rest.to_vec()), Ok(b"rest".to_vec()));
    // In an array, and with a length beyond the table's end.
    assert!(is_unreadable(&parsed(&table(b"x", b'A', &counted(b"?")))));
    assert!(is_unreadable(&parsed(&table(b"x", b'S', &[0xFF; 4]))));
}

#[test]
fn copies_are_seen_in_any_case() {
    for (key, copies) in [("CC", true), ("bcc", true), ("Bcc", true), ("cc2", false)] {
        let properties =
            BasicProperties::default().with_headers(parsed(&table(key.as_bytes(), b'A', &arrays(1))));
        assert_eq!(copied(&properties), copies, "{key}");
    }
}
