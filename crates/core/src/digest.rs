//! Salted digests, which evidence keeps in place of content that may have to be erased.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::json::{JsonRefusal, canonical};

/// 128 random bits, stored beside the content and erased with it.
pub type Salt = [u8; 16];

/// SHA-256 over `salt ‖ content`, 32 bytes.
pub fn salted(salt: &Salt, content: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(content).finalize().into()
}

/// `sha256:` and 64 lower-case hex digits.
pub fn tagged(digest: &[u8]) -> String {
    format!("sha256:{}", hex(digest))
}

/// Parses the text form of [`tagged`]; `None` for any other text.
pub fn untagged(text: &str) -> Option<[u8; 32]> {
    // Strict, so that a digest has exactly one text: from_str_radix also accepts a sign and capitals.
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(digit))?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Where a permit's call goes: fixed when the action is evaluated, checked again before the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// The tool's name in the registry.
    pub tool: String,
    /// The tool's version in the registry.
    pub version: String,
    /// The resolved endpoint, such as `POST https://tools.example.com/cancel`.
    pub endpoint: String,
}

/// What a human approves, in RFC 8785 canonical form: tool, arguments, agent, target.
pub fn content(
    agent: &serde_json::Value,
    arguments: &serde_json::Value,
    target: &Target,
) -> Result<Vec<u8>, JsonRefusal> {
    canonical(&serde_json::json!({
        "tool": target.tool,
        "arguments": arguments,
        "agent": agent,
        "target": target,
    }))
}

#[cfg(test)]
mod tests;
