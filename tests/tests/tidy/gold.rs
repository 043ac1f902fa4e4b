//! Nothing follows from a finding on a gold item, because nothing that could do something knows of them.

use std::{collections::BTreeSet, fs};

use anyhow::ensure;

use super::{root, sources};

/// Where SQL names the tables of gold items: what opens and judges them; what mixes them into the auditors' list and the sweep
/// for lost requests; what proves their draw; what erases what is about people. No statement that counts or estimates anything.
const MIXED_IN: &[&str] = &[
    "crates/store/src/epochs.rs",
    "crates/store/src/erasure.rs",
    "crates/store/src/held.rs",
    "crates/store/src/listing.rs",
    "crates/store/src/sampling.rs",
    "crates/store/src/sweeps.rs",
];

/// What a finding on an audit may lead to, as the sampler names it.
const EFFECTS: &[&str] = &[
    "compensation",
    "remediation",
    "outcomes",
    "resolve",
    "feedback",
    "switching",
    "sampling_plans",
    "pending_notifications",
    "set_status",
    "Evidence::of",
    "Evidence::about",
    "audits::",
    "AuditRecord",
];

/// A source without its comments and tests.
fn code(path: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(root().join(path))?;
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    Ok(code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n"))
}

#[test]
fn no_figure_and_no_other_statement_reads_the_tables_of_gold_items() -> anyhow::Result<()> {
    let mut files = Vec::new();
    for name in fs::read_dir(root().join("crates"))? {
        let source = name?.path().join("src");
        if source.is_dir() {
            sources(&source, &mut files)?;
        }
    }
    for file in fs::read_dir(root().join("crates/store/src/sql"))? {
        files.push(file?.path());
    }
    let mut naming = BTreeSet::new();
    for file in files {
        let path = file.strip_prefix(root())?.display().to_string();
        let own = path == "crates/store/src/gold.rs" || path.starts_with("crates/store/src/gold/");
        let own = own || path.contains("/src/tests/");
        let text = if path.ends_with(".rs") { code(&path)? } else { fs::read_to_string(&file)? };
        let named = ["gold_draws", "gold_items", "gold_findings", "gold_notes"]
            .iter()
            .any(|table| text.contains(table));
        if named && !own {
            naming.insert(path);
        }
    }
    ensure!(naming.iter().map(String::as_str).eq(MIXED_IN.iter().copied()), "{naming:?}");
    Ok(())
}

#[test]
fn what_judges_gold_items_can_name_nothing_that_has_an_effect() -> anyhow::Result<()> {
    let mut files = vec![root().join("crates/sampler/src/gold.rs"), root().join("crates/store/src/gold.rs")];
    for dir in ["crates/sampler/src/gold", "crates/store/src/gold"] {
        sources(&root().join(dir), &mut files)?;
    }
    ensure!(files.len() >= 8, "{files:?}");
    for file in files {
        let path = file.strip_prefix(root())?.display().to_string();
        let code = code(&path)?;
        for effect in EFFECTS {
            let found = code
                .lines()
                .find(|line| line.contains(effect) && !HARMLESS.iter().any(|known| line.contains(known)));
            ensure!(found.is_none(), "{path} names {effect}: {found:?}");
        }
    }
    Ok(())
}

/// Lines in which such a word is no effect: the row of a finding, a condition on candidates, how texts are stored.
const HARMLESS: &[&str] = &[
    "audits::FindingRow",
    "audits::Request",
    "outcomes::storable",
    "FROM outcomes o WHERE o.action = u.action AND o.seq > 1",
];
