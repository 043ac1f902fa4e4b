//! Tiles of the ledger. The first line of the input is the path, the rest the content.
#![no_main]

use countersign_fuzz::text;
use countersign_ledger::tile::{TileId, decode_entries, decode_hashes, encode_entries, encode_hashes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (path, file) = data.split_at(at);
    let Some(Ok(tile)) = text(path).map(str::parse::<TileId>) else { return };
    assert_eq!(Some(tile.path().as_str()), text(path));
    assert!((1..=256).contains(&tile.width), "{tile:?}");
    let file = file.get(1..).unwrap_or_default();
    if let Ok(hashes) = decode_hashes(&tile, file) {
        assert_eq!(encode_hashes(&hashes), file);
    }
    if let Ok(entries) = decode_entries(&tile, file) {
        assert_eq!(encode_entries(&entries).expect("decoded entries can be encoded"), file);
    }
});
