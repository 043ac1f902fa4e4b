//! What is measured of a group.

use serde::{Deserialize, Serialize};

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Its name: one part, or agent, tool and stratum.
    pub group: Vec<String>,
    /// Its actions.
    pub actions: u64,
    /// Errors among what was executed.
    pub wrong: Measured,
    /// Rejections among what reviewers decided.
    pub rejected: Measured,
    /// Requests for approval that waited long, among those whose time is over.
    pub slow: Measured,
    /// Draws for an audit among what was executed.
    pub audited: Measured,
}

/// What was measured of a group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The group's own rate, in the later period; absent where there are too few cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Share>,
    /// That of the reference, or of the earlier period; absent where there are too few cases, and in the reference's own line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Share>,
    /// How they differ; absent where one of them is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Difference>,
}

/// A rate with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Judged, or counted without a draw.
    pub cases: u64,
    /// Of these, wrong, or whatever else is measured.
    pub positive: u64,
    /// Drawn and not judged yet.
    pub missing: u64,
    /// The rate, 0 to 1: estimated where it rests on draws.
    pub rate: f64,
    /// The lower end of its interval.
    pub lower: f64,
    /// The upper end of its interval.
    pub upper: f64,
}

/// How a rate differs from that of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The rate less that of the reference.
    pub difference: f64,
    /// The lower end of its interval.
    pub lower: f64,
    /// The upper end of its interval.
    pub upper: f64,
    /// The rate divided by that of the reference; absent where that is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// The evidence that they differ, as the natural logarithm of an e-value.
    pub ln_evidence: f64,
    /// Whether they differ, at the false discovery rate of all flags of the report.
    pub flagged: bool,
    /// A higher rate would hardly be seen unless it were this much higher; absent where none would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<f64>,
}
