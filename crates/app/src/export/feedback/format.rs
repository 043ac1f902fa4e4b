//! The forms of a training file.

use serde::Serialize;

/// What a trainer reads (Hugging Face TRL, "Dataset formats and types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedbackFormat {
    /// Preference: prompt, chosen, rejected.
    Dpo,
    /// Unpaired preference: prompt, completion, label.
    Kto,
    /// Prompt-completion: prompt, completion.
    Sft,
    /// Feedback as it is published to the agents.
    Jsonl,
}
