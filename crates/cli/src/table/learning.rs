//! The report's part about human feedback, as text. A section without data is left out.

use countersign_app::report::{
    Agreement, Correction, Learning, Lowered, PlanChange, Prevented, Rate, Remediations, Version,
};

use super::{figures::percent, rates};
use crate::output::{Block, blocks};

/// All sections with data, each after an empty line.
pub(super) fn render(learning: &Learning) -> String {
    let sections = [
        learning.correction.as_ref().map(correction),
        prevented(&learning.prevented),
        agreement(&learning.agreement),
        versions(&learning.versions),
        plan_changes(&learning.plan_changes),
        remediations(&learning.remediations),
        lowered(&learning.lowered),
    ];
    sections.into_iter().flatten().map(|section| format!("\n\n{section}")).collect()
}

fn correction(correction: &Correction) -> String {
    let Correction { corrected, errors, share, lower, upper, reference } = correction;
    let none = if errors.is_some() { "no error estimated" } else { "unknown" };
    let share = share.map_or_else(|| none.into(), percent);
    let errors =
        errors.map_or_else(|| "an unknown number of errors".into(), |n| format!("{n:.1} errors estimated"));
    let [low, high] = reference.map(|end| format!("{:.0}", 100.0 * end));
    format!(
        "correction efficacy: {share}, {} to {} with 95 % confidence; reference {low}-{high} %\n  \
         {corrected} found wrong and put right of {errors} among what was executed",
        percent(*lower),
        percent(*upper),
    )
}

fn prevented(prevented: &Prevented) -> Option<String> {
    let Prevented { rejections, edits, rejections_audited, rejections_upheld } = prevented;
    if rejections + edits == 0 {
        return None;
    }
    let audited = match rejections_audited {
        0 => String::new(),
        audited => format!("\n  of {audited} rejections that were audited, {rejections_upheld} were upheld"),
    };
    Some(format!("prevented by reviewers: {rejections} rejected, {edits} edited{audited}"))
}

fn agreement(agreement: &Agreement) -> Option<String> {
    let Agreement { pairs, both_wrong, one_wrong, both_correct, raw, positive } = agreement;
    let raw = (*raw)?;
    let positive = positive.map_or_else(|| "unknown: nothing was found wrong".into(), percent);
    Some(format!(
        "agreement of auditors: {} on {pairs} actions that two have judged; on what is wrong {positive}\n  \
         both wrong {both_wrong}, one of them {one_wrong}, both correct {both_correct}; who finds a critical error \
         has a second auditor asked, so these are no sample",
        percent(raw),
    ))
}

fn versions(versions: &[Version]) -> Option<String> {
    if versions.is_empty() {
        return None;
    }
    let half = |name: String, rate: &Option<Rate>| {
        Block::new(name, rate.as_ref().map_or_else(|| std::array::from_fn(|_| "—".into()), rates::row))
    };
    let halves = |version: &Version| {
        let Version { agent, version, first_feedback, earlier, later } = version;
        let first = first_feedback.map_or_else(|| "none".into(), |first| first.format("%F %T").to_string());
        let heading = format!("{agent} {version}, first feedback: {first}\n  earlier half");
        [half(heading, earlier), half("  later half".into(), later)]
    };
    let halves: Vec<Block<6>> = versions.iter().flat_map(halves).collect();
    Some(format!(
        "{}\n\
         versions of agents: the halves of what each had executed, in the order of acceptance; their intervals hold \
         together with 95 % confidence. first feedback: the first rejection, edit or finding of wrong.",
        blocks(rates::HEADER, &halves)
    ))
}

fn plan_changes(moves: &[PlanChange]) -> Option<String> {
    if moves.is_empty() {
        return None;
    }
    let block = |moved: &PlanChange| {
        Block::new(
            format!("{}\n  {}", moved.stratum, moved.reason),
            [
                moved.at.format("%F %T").to_string(),
                moved.was.clone(),
                moved.state.clone(),
                moved.seen.executed.to_string(),
                moved.seen.audited.to_string(),
                moved.seen.wrong.to_string(),
            ],
        )
    };
    Some(format!(
        "{}\n\
         sampling plans that switched between approval (pre_approval, discontinued) and audit (normal, tightened); \
         executed: since the plan had last left pre-approval",
        blocks(
            ["when", "from", "to", "executed", "audited", "wrong"],
            &moves.iter().map(block).collect::<Vec<_>>()
        )
    ))
}

fn remediations(tasks: &Remediations) -> Option<String> {
    let Remediations { open, overdue } = tasks;
    (*open > 0).then(|| format!("remediation tasks: {open} open now, {overdue} of them overdue"))
}

fn lowered(groups: &[Lowered]) -> Option<String> {
    if groups.is_empty() {
        return None;
    }
    let block = |group: &Lowered| {
        Block::new(
            group.group.clone(),
            [
                group.epochs.to_string(),
                percent(group.remaining),
                format!("{:.1}", group.demand),
                group.capacity.map_or_else(String::new, |capacity| format!("{capacity:.1}")),
            ],
        )
    };
    Some(format!(
        "{}\ngroups that could not judge as many audits an epoch as the rates ask for",
        blocks(
            ["epochs with\nlowered rates", "lowest share\nleft", "highest\ndemand", "capacity"],
            &groups.iter().map(block).collect::<Vec<_>>()
        )
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Learning {
        Learning {
            correction: None,
            prevented: Prevented { rejections: 0, edits: 0, rejections_audited: 0, rejections_upheld: 0 },
            versions: vec![],
            agreement: Agreement {
                pairs: 0,
                both_wrong: 0,
                one_wrong: 0,
                both_correct: 0,
                raw: None,
                positive: None,
            },
            plan_changes: vec![],
            remediations: Remediations { open: 0, overdue: 0 },
            lowered: vec![],
        }
    }

    #[test]
    fn sections_without_data_are_left_out() {
        assert_eq!(render(&nothing()), "");
    }

    #[test]
    fn efficacy_stands_beside_its_reference() {
        let correction = Correction {
            corrected: 8,
            errors: Some(10.0),
            share: Some(0.8),
            lower: 0.4,
            upper: 1.0,
            reference: [0.7, 0.9],
        };
        let text = render(&Learning { correction: Some(correction), ..nothing() });
        assert_eq!(
            text,
            "\n\ncorrection efficacy: 80.00 %, 40.00 % to 100.00 % with 95 % confidence; reference 70-90 %\n  \
             8 found wrong and put right of 10.0 errors estimated among what was executed"
        );
    }
}
