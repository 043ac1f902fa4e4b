//! Strata: the groups of comparable actions within which error rates are estimated.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::digest::hex;

/// The most characters of a version in the name of a stratum: agents choose their versions, and a name must be bounded.
const VERSION_MAX: usize = 64;

/// How many hex digits of its digest end the name of a longer version.
const MARK: usize = 16;

/// `rule/tool/agent@version`, followed by `/band` if the rule has risk bands. `agent` is the object of the proposal.
pub fn stratum(rule: &str, tool: &str, agent_id: &str, agent: &Value, band: Option<&str>) -> String {
    let band = band.map(|band| format!("/{band}")).unwrap_or_default();
    format!("{rule}/{tool}/{agent_id}@{}{band}", version_name(version(agent)))
}

/// The version that an agent says it has; empty if it says none.
pub fn version(agent: &Value) -> &str {
    agent.get("version").and_then(Value::as_str).unwrap_or_default()
}

/// What strata have in common that differ only in what the agent chooses: rule, tool and agent, none of which contains
/// an `@`.
pub fn family_of(stratum: &str) -> &str {
    stratum.split_inclusive('@').next().unwrap_or_default()
}

/// The stratum of a family that versions and bands share which have none of their own. No version has this name.
pub fn shared(family: &str) -> String {
    format!("{family}*")
}

/// Whether a stratum is one of this version.
pub fn has_version(stratum: &str, version: &str) -> bool {
    let rest = stratum.strip_prefix(family_of(stratum)).unwrap_or_default();
    rest.split('/').next() == Some(version_name(version).as_str())
}

/// A version in the name of a stratum: without `/`, so that none looks like another with a band, and bounded, so that
/// no two share a name.
fn version_name(version: &str) -> String {
    let name = match version.char_indices().nth(VERSION_MAX) {
        None => version.to_owned(),
        Some(_) => {
            let begin: String = version.chars().take(VERSION_MAX - MARK - 1).collect();
            let mut mark = hex(&Sha256::digest(version.as_bytes()));
            mark.truncate(MARK);
            format!("{begin}~{mark}")
        }
    };
    name.replace('%', "%25").replace('/', "%2F").replace('*', "%2A")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(version: &str, band: Option<&str>) -> String {
        stratum("pay", "send", "bot", &json!({"version": version}), band)
    }

    #[test]
    fn siblings_differ_only_in_version_and_band() {
        let (one, other) = (of("1@2", Some("small")), stratum("pay", "send", "bot", &json!({}), None));
        assert_eq!((one.as_str(), other.as_str()), ("pay/send/bot@1@2/small", "pay/send/bot@"));
        assert_eq!(family_of(&one), family_of(&other));
        assert_ne!(family_of(&one), family_of(&stratum("pay", "send", "bot-2", &json!({}), None)));
    }

    #[test]
    fn no_version_has_the_name_of_another_stratum() {
        assert_ne!(of("1/small", None), of("1", Some("small")));
        assert_ne!(of("1%2Fsmall", None), of("1/small", None));
        assert_ne!(of("*", None), shared("pay/send/bot@"));
        let long = "v".repeat(VERSION_MAX);
        assert_eq!(of(&long, None), format!("pay/send/bot@{long}"));
        assert_ne!(of(&format!("{long}1"), None), of(&format!("{long}2"), None));
        assert!(of(&format!("{long}1"), None).len() <= "pay/send/bot@".len() + VERSION_MAX);
    }

    #[test]
    fn a_stratum_has_one_version_in_every_band() {
        assert!(has_version(&of("1/2", Some("small")), "1/2") && has_version(&of("", None), ""));
        assert!(!has_version(&of("1", Some("small")), "1/small") && !has_version(&shared("a/b/c@"), "*"));
    }
}
