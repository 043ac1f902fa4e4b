//! Strata: the groups of comparable actions within which error rates are estimated.

use serde_json::Value;

/// The most characters of a version in the name of a stratum: agents choose their versions, and a name must be bounded.
const VERSION_MAX: usize = 64;

/// `rule/tool/agent@version`, followed by `/band` if the rule has risk bands. `agent` is the object of the proposal.
pub fn stratum(rule: &str, tool: &str, agent_id: &str, agent: &Value, band: Option<&str>) -> String {
    let version = agent.get("version").and_then(Value::as_str).unwrap_or_default();
    let version: String = version.chars().take(VERSION_MAX).collect();
    let band = band.map(|band| format!("/{band}")).unwrap_or_default();
    format!("{rule}/{tool}/{agent_id}@{version}{band}")
}

/// What a stratum has in common with its siblings: rule, tool and agent, none of which contains an `@`.
pub fn family_of(stratum: &str) -> &str {
    stratum.split_inclusive('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn siblings_differ_only_in_version_and_band() {
        let one = stratum("pay", "send", "bot", &json!({"version": "1@2"}), Some("small"));
        let other = stratum("pay", "send", "bot", &json!({}), None);
        assert_eq!((one.as_str(), other.as_str()), ("pay/send/bot@1@2/small", "pay/send/bot@"));
        assert_eq!(family_of(&one), family_of(&other));
        assert_ne!(family_of(&one), family_of(&stratum("pay", "send", "bot-2", &json!({}), None)));
    }
}
