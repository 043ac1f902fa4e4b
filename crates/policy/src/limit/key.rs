//! Keys of limits. A key's spelling is the sender's, and texts that read alike must be one key: with another spelling
//! for each action, nobody would ever reach a limit.

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, Script},
    script::ScriptWithExtensions,
};

/// The longest text of a key, in bytes.
pub(super) const MAX_BYTES: usize = 512;

/// Folding and composing again has no effect after a few rounds; Unicode's own tables are derived in the same way.
const ROUNDS: usize = 4;

/// Scripts that are written together, as in the level "highly restrictive" of Unicode Technical Standard 39.
const WRITTEN_TOGETHER: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];

/// The form that all spellings of a text share: NFKC_Casefold, which drops what is invisible, with single spaces between
/// words. A text of letters that are not written together is refused: one of them may look like another script's.
pub(super) fn normalised(text: &str) -> Result<String, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("a key of the limit is longer than {MAX_BYTES} bytes"));
    }
    let folded = folded(text);
    let words: Vec<&str> = folded.split_whitespace().collect();
    let key = words.join(" ");
    let categories = CodePointMapData::<GeneralCategory>::new();
    let invisible = [
        GeneralCategory::Control,
        GeneralCategory::Format,
        GeneralCategory::PrivateUse,
        GeneralCategory::Surrogate,
        GeneralCategory::Unassigned,
    ];
    if key.chars().any(|c| invisible.contains(&categories.get(c))) {
        return Err("a key of the limit contains a character that cannot be seen".to_owned());
    }
    if !is_written_together(&key) {
        return Err("a key of the limit mixes letters of several scripts".to_owned());
    }
    Ok(key)
}

/// NFKC_Casefold.
fn folded(text: &str) -> String {
    let (cases, composed) = (CaseMapper::new(), ComposingNormalizerBorrowed::new_nfkc());
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let mut folded = text.to_owned();
    for _ in 0..ROUNDS {
        let visible: String = folded.chars().filter(|c| !ignorable.contains(*c)).collect();
        let next = composed.normalize(&cases.fold_string(&composed.normalize(&visible))).into_owned();
        if next == folded {
            break;
        }
        folded = next;
    }
    folded
}

fn is_written_together(text: &str) -> bool {
    let scripts = ScriptWithExtensions::new();
    let of = |c| scripts.get_script_extensions_val(c).iter().collect::<Vec<_>>();
    let shared = [Script::Common, Script::Inherited];
    let letters: Vec<Vec<Script>> =
        text.chars().map(of).filter(|of| !of.iter().any(|script| shared.contains(script))).collect();
    let Some(first) = letters.first() else { return true };
    let single = first.iter().map(std::slice::from_ref);
    single
        .chain(WRITTEN_TOGETHER)
        .any(|together| letters.iter().all(|of| of.iter().any(|script| together.contains(script))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_key_is_one_key() {
        for text in [
            "customer:lim",
            " customer:lim",
            "customer:lim\t",
            "Customer:LIM",
            "customer:l\u{200b}im",
            "customer:lim\u{feff}",
            "cus\u{ad}tomer:lim",
            "customer:lim\u{fe0f}",
            "customer:lim\u{e0041}",
            "ｃｕｓｔｏｍｅｒ：ｌｉｍ",
            "customer:𝐥𝐢𝐦",
            "\u{a0}customer:lim\u{3000}",
        ] {
            assert_eq!(normalised(text).as_deref(), Ok("customer:lim"), "{text:?}");
        }
        assert_eq!(normalised("a  b\n c"), Ok("a b c".to_owned()));
        assert_eq!(normalised("STRASSE"), normalised("straße"));
        assert_eq!(normalised("Σ"), normalised("ς"));
        assert_eq!(normalised("e\u{301}"), normalised("É"));
        assert_ne!(normalised("customer:lim"), normalised("customer:lin"));
    }

    #[test]
    fn letters_that_are_not_written_together_are_refused() {
        for text in
            ["customer:l\u{456}m", "\u{441}ustomer:lim", "l\u{3b9}m", "customer:٥", "ab\u{1}c", "a\u{e000}"]
        {
            assert!(normalised(text).is_err(), "{text:?}");
        }
        for text in ["кафе 5", "customer:林", "田中さん", "김철수", "naïve", "12-34/5", ""] {
            assert!(normalised(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_refused_before_it_is_folded() {
        assert!(normalised(&"a".repeat(512)).is_ok());
        assert!(normalised(&"a".repeat(513)).is_err());
        assert!(normalised(&"\u{fdfa}".repeat(170)).is_ok_and(|key| key.len() > 512));
    }
}
