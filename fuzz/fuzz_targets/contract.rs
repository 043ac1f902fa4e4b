//! Every other message of the contract, as clients parse it. The first byte selects the message.
#![no_main]

use countersign_core::message::{
    ApprovalAnswer, ApprovalRequest, AuditRequest, DecisionData, FeedbackData, FindingData, OutcomeData,
    ProposalData,
};
use countersign_fuzz::event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    match which {
        b'p' => drop(event::<ProposalData>(data)),
        b'o' => drop(event::<OutcomeData>(data)),
        b'r' => drop(event::<ApprovalRequest>(data)),
        b'd' => drop(event::<DecisionData>(data)),
        b'a' => drop(event::<ApprovalAnswer>(data)),
        b'u' => drop(event::<AuditRequest>(data)),
        b'f' => drop(event::<FindingData>(data)),
        _ => drop(event::<FeedbackData>(data)),
    }
});
