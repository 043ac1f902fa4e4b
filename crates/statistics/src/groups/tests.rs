use super::*;
use crate::{binomial::clopper_pearson, multiple::e_bh, simulated::Dice};

const ALPHA: f64 = 0.05;

fn cell(pi: f64, blocks: Vec<AuditCounts>) -> GroupCell {
    let judged: u64 = blocks.iter().map(|block| block.judged).sum();
    GroupCell { pi, executed: (judged as f64 / pi).round() as u64, missing: 0, blocks }
}

fn blocks(judged: u64, wrong: u64) -> Vec<AuditCounts> {
    vec![AuditCounts { judged, wrong }; 20]
}

fn days(dice: &mut Dice, rate: f64, a_day: u64, days: usize) -> Vec<AuditCounts> {
    let mut day = || (0..a_day).filter(|_| dice.below(rate)).count() as u64;
    (0..days).map(|_| AuditCounts { judged: a_day, wrong: day() }).collect()
}

#[test]
fn a_group_is_compared_with_the_reference() {
    let [reference, worse, same] = [1, 4, 1].map(|wrong| vec![cell(0.1, blocks(10, wrong))]);
    let compared = |group: &[GroupCell]| compare(group, &reference, ALPHA, 2, ALPHA).unwrap();
    let (worse, same) = (compared(&worse), compared(&same));
    assert_eq!(e_bh(&[worse.ln_evidence, same.ln_evidence], ALPHA), [true, false]);
    assert!((worse.difference.rate - 0.3).abs() < 1e-12 && worse.difference.interval.lower > 0.1);
    assert!((worse.ratio.unwrap() - 4.0).abs() < 1e-12 && same.difference.interval.contains(0.0));
    assert!(worse.visible.is_some_and(|least| least < 0.3), "{worse:?}");
}

#[test]
fn even_a_census_is_a_sample_of_what_a_group_does() {
    let census = [cell(1.0, blocks(1, 0))];
    let found = rate(&census, ALPHA).unwrap();
    let expected = clopper_pearson(0.0, 20.0, ALPHA);
    assert_eq!((found.rate, found.interval), (0.0, expected));
    assert_eq!(rate(&[cell(0.5, vec![])], ALPHA), None);
}

#[test]
fn other_inclusion_probabilities_are_no_difference() {
    // Failures are all audited, and 40 % of them wrong; of the rest a tenth is audited, and 2 % are wrong. The groups
    // differ in nothing but how many failures were audited of them.
    let group = |dice: &mut Dice, failures: u64| {
        vec![cell(1.0, days(dice, 0.4, failures, 20)), cell(0.1, days(dice, 0.02, 10, 20))]
    };
    let mut dice = Dice::new(5);
    let (mut pooled, mut flagged) = (0, 0);
    for _ in 0..100 {
        let (few, many) = (group(&mut dice, 1), group(&mut dice, 20));
        let compared = compare(&many, &few, ALPHA, 1, ALPHA).unwrap();
        flagged += u32::from(compared.ln_evidence >= 20_f64.ln());
        let sum = |cells: &[GroupCell]| -> Vec<AuditCounts> {
            let day = |day: usize| {
                judged(
                    &cells
                        .iter()
                        .map(|cell| GroupCell { blocks: vec![cell.blocks[day]], ..cell.clone() })
                        .collect::<Vec<_>>(),
                )
            };
            (0..20).map(day).collect()
        };
        pooled += u32::from(evidence(&sum(&many), &sum(&few)) >= 20_f64.ln());
    }
    assert!(flagged <= 5 && pooled >= 95, "{flagged} by inclusion probability, {pooled} pooled");
}

#[test]
fn equal_groups_are_seldom_flagged_whatever_their_inclusion_probabilities() {
    let mut dice = Dice::new(6);
    let group = |dice: &mut Dice| {
        vec![
            cell(1.0, days(dice, 0.3, 2, 20)),
            cell(0.1, days(dice, 0.05, 10, 20)),
            cell(0.3, days(dice, 0.05, 5, 20)),
        ]
    };
    let flagged = (0..200).filter(|_| {
        let reference = group(&mut dice);
        let values: Vec<f64> = (0..9)
            .map(|_| compare(&group(&mut dice), &reference, ALPHA, 9, ALPHA).unwrap().ln_evidence)
            .collect();
        e_bh(&values, ALPHA).contains(&true)
    });
    let flagged = flagged.count();
    assert!(flagged <= 10, "{flagged} of 200");
}

#[test]
fn what_is_said_to_be_invisible_is_seldom_flagged() {
    let mut dice = Dice::new(8);
    let known = vec![cell(0.5, vec![AuditCounts { judged: 1_000, wrong: 50 }])];
    let least = compare(&known, &known, ALPHA, 1, ALPHA).unwrap().visible.unwrap();
    assert!((0.02..0.06).contains(&least), "{least}");
    let flagged = (0..200).filter(|_| {
        let [one, other] = [0.05, 0.05 + least].map(|rate| vec![cell(0.5, days(&mut dice, rate, 10, 100))]);
        compare(&other, &one, ALPHA, 1, ALPHA).is_some_and(|found| found.ln_evidence >= 20_f64.ln())
    });
    let flagged = flagged.count();
    assert!((20..120).contains(&flagged), "{flagged} of 200");
}

#[test]
fn too_few_findings_show_no_difference_at_all() {
    let few = vec![cell(1.0, vec![AuditCounts { judged: 2, wrong: 0 }])];
    assert_eq!(compare(&few, &few, ALPHA, 1, ALPHA).unwrap().visible, None);
    // And what was never drawn with the same probability cannot be compared.
    let other = vec![cell(0.5, vec![AuditCounts { judged: 500, wrong: 400 }])];
    let compared = compare(&other, &few, ALPHA, 1, ALPHA).unwrap();
    assert_eq!((compared.ln_evidence, compared.visible), (0.0, None));
}
