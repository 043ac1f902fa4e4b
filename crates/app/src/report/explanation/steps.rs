//! What went into the figures of each line.

use countersign_statistics::{
    anytime::derive,
    estimate::{ALPHA, Cell, Most, each_of, effective_audits, most_right_and_wrong},
};

use super::lines::{ExplainedLine, Input, Step};
use crate::report::{Agreement, Auditors, CorrectedRate, Correction, Rate, Share, Version, rates::RateCell};

fn input(name: impl Into<String>, value: f64) -> Input {
    Input { name: name.into(), value }
}

fn count(name: &str, value: u64) -> Input {
    input(name, value as f64)
}

fn step(figure: &'static str, value: Option<f64>, from: Vec<Input>) -> Step {
    Step { figure, value, from }
}

/// What a line of rates is about.
pub(super) fn name(rate: &Rate) -> String {
    let [rule, stratum] = [&rate.rule, &rate.stratum].map(|name| name.as_deref());
    match (rule, stratum) {
        (_, Some(stratum)) => format!("stratum {stratum}"),
        (Some(rule), None) => format!("rule {rule}"),
        (None, None) => "all that was executed".into(),
    }
}

/// The figures of a rate.
pub(super) fn of_rate(line: String, rate: &Rate) -> ExplainedLine {
    let counted: Vec<Cell> = rate.cells.iter().map(RateCell::counted).collect();
    let [right, wrong] = most_right_and_wrong(&counted, 1.0 - rate.confidence);
    let steps = vec![
        step("errors", rate.errors, vec![]),
        step("rate", rate.rate, vec![]),
        step("undetected", rate.undetected, vec![count("found", rate.wrong)]),
        step("confidence", Some(rate.confidence), vec![]),
        step("upper", Some(rate.upper), end(&wrong)),
        step("lower", Some(rate.lower), end(&right)),
        at_most(rate, &counted),
    ];
    ExplainedLine { line, cells: rate.cells.clone(), steps }
}

/// What an end of an interval follows from.
fn end(most: &Most) -> Vec<Input> {
    let always = [
        input("effective audits", most.effective.audits),
        input("effective wrong", most.effective.wrong),
        input("korn-graubard", most.korn_graubard),
    ];
    let several = [("with unseen", most.with_unseen), ("alone", most.alone)];
    let several = several.into_iter().filter_map(|(name, value)| Some(input(name, value?)));
    always.into_iter().chain(several).chain([input("possible", most.possible)]).collect()
}

fn at_most(rate: &Rate, cells: &[Cell]) -> Step {
    let found = derive(cells, ALPHA);
    let unseen = found.unseen.iter().filter(|(_, errors)| *errors > 0);
    let unseen = unseen.map(|(pi, errors)| count(&format!("unseen with π {pi}"), *errors));
    let logarithms = [
        ("ln of the average", Some(found.ln_value)),
        ("with one error more", found.ln_with_one_more),
        ("ln 20", Some(-ALPHA.ln())),
    ];
    let logarithms = logarithms.into_iter().filter_map(|(name, value)| Some(input(name, value?)));
    let counts = [count("found", rate.wrong), count("not judged yet", rate.missing)];
    let from = counts.into_iter().chain(unseen).chain(logarithms).collect();
    step("at most undetected", Some(found.at_most.undetected as f64), from)
}

/// The figures of a group of auditors, or of one of them, in a table of `lines`.
pub(super) fn of_auditors(auditors: &Auditors, lines: usize) -> ExplainedLine {
    let who = auditors.auditor.as_ref().map_or_else(String::new, |auditor| format!(", {auditor}"));
    let confidence = 1.0 - each_of(2 * lines, ALPHA);
    let share = |figure, share: &Share| {
        let from = vec![
            count("items", share.items),
            count("recognised", share.recognised),
            input("confidence", confidence),
            input("lower", share.lower),
            input("upper", share.upper),
        ];
        step(figure, share.share, from)
    };
    let steps =
        vec![share("sensitivity", &auditors.sensitivity), share("specificity", &auditors.specificity)];
    ExplainedLine { line: format!("gold items of {}{who}", auditors.group), cells: vec![], steps }
}

/// The figures of a corrected rate; `rates` has the plain ones.
pub(super) fn of_corrected(line: &CorrectedRate, rates: &[Rate]) -> ExplainedLine {
    let plain = rates.iter().find(|rate| rate.rule == line.rule && rate.stratum.is_none());
    let cells = plain.map(|rate| rate.cells.clone()).unwrap_or_default();
    let audits = effective_audits(&cells.iter().map(RateCell::counted).collect::<Vec<Cell>>());
    let [wrong, recognised] = line.known_wrong;
    let [right, passed] = line.known_right;
    let known = || {
        vec![
            input("plain", line.plain),
            count("known to be wrong", wrong),
            count("of these found wrong", recognised),
            count("known to be right", right),
            count("of these found correct", passed),
        ]
    };
    let interval = [("audits", Some(audits)), ("lower", line.lower), ("upper", line.upper)];
    let interval = interval.into_iter().filter_map(|(name, value)| Some(input(name, value?)));
    let name = plain.map_or_else(|| "all that was executed".into(), name);
    let steps = vec![
        step("corrected rate", line.rate, known()),
        step("corrected interval", line.lower, known().into_iter().chain(interval).collect()),
    ];
    ExplainedLine { line: format!("{name}, corrected for auditors' errors"), cells, steps }
}

/// The figures of the share of errors that was corrected; `all` is the rate of all that was executed.
pub(super) fn of_correction(found: &Correction, all: &Rate) -> ExplainedLine {
    let errors = found.errors.map(|errors| input("errors", errors));
    let from = [count("corrected", found.corrected)].into_iter().chain(errors).chain([
        count("executed", all.executed),
        input("lower of the rate", all.lower),
        input("upper of the rate", all.upper),
        input("lower", found.lower),
        input("upper", found.upper),
    ]);
    let steps = vec![step("corrected share", found.share, from.collect())];
    ExplainedLine { line: "errors found and put right".into(), cells: vec![], steps }
}

/// The figures of auditors' agreement.
pub(super) fn of_agreement(agreement: &Agreement) -> ExplainedLine {
    let Agreement { pairs, both_wrong, one_wrong, both_correct, raw, positive } = *agreement;
    let wrong = || vec![count("both wrong", both_wrong), count("one wrong", one_wrong)];
    let all = [count("both correct", both_correct), count("pairs", pairs)];
    let steps = vec![
        step("agreement", raw, wrong().into_iter().chain(all).collect()),
        step("agreement on what is wrong", positive, wrong()),
    ];
    ExplainedLine { line: "agreement of auditors".into(), cells: vec![], steps }
}

/// The figures of both halves of what a version of an agent has done.
pub(super) fn of_version(version: &Version) -> impl Iterator<Item = ExplainedLine> {
    let half = |which: &str, rate: &Option<Rate>| {
        let name = format!("{} {}, {which} half", version.agent, version.version);
        rate.as_ref().map(|rate| of_rate(name, rate))
    };
    [half("earlier", &version.earlier), half("later", &version.later)].into_iter().flatten()
}
