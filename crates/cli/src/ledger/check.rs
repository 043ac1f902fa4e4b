//! `countersign ledger check`: offline.

use std::{fs, path::Path, process::ExitCode};

use anyhow::Context as _;
use countersign_ledger::{
    bundle::{Bundle, Checked},
    continuity::{self, Continuity},
};
use serde::Deserialize;
use serde_json::json;

use super::key;
use crate::{Connections, output::show};

/// What tells the two kinds of files apart.
#[derive(Deserialize)]
struct Format {
    format: String,
}

pub(super) fn run(to: &Connections, file: &Path, key: &Path) -> anyhow::Result<ExitCode> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let name = file.display();
    let Format { format } = serde_json::from_slice(&bytes).with_context(|| format!("{name} is no bundle"))?;
    if format == continuity::FORMAT {
        let proof: Continuity =
            serde_json::from_slice(&bytes).with_context(|| format!("{name} is no proof"))?;
        let (old, new) =
            proof.check(&key::read(key, &proof.new)?).with_context(|| format!("{name} does not hold"))?;
        let shown = json!({"origin": new.origin, "old": old.size, "new": new.size});
        return show(to, &shown, || {
            format!("holds: the {} entries of {} continue the {} of before", new.size, new.origin, old.size)
        });
    }
    let bundle = Bundle::read(&bytes)?;
    let checked = bundle
        .check(&key::read(key, &bundle.checkpoint)?)
        .with_context(|| format!("{name} does not hold"))?;
    show(to, &checked, || text(&checked))
}

fn text(checked: &Checked) -> String {
    let mut lines = vec![format!(
        "holds: action {} is {} in the {} entries of {}",
        checked.action, checked.state, checked.size, checked.origin
    )];
    lines.extend(checked.entries.iter().map(|(index, kind)| format!("  entry {index}: {kind}")));
    lines.push(format!("  decisions with a signature that holds: {}", checked.signatures));
    lines.push(match checked.sampling.as_str() {
        "proved" => "  the coin falls the same way again".into(),
        "committed" => "  the coin's epoch is committed to; its key is not known yet".into(),
        _ => "  the coin was not thrown".into(),
    });
    lines.push("  a bundle cannot show that these are all: what came later may have been left out".into());
    lines.extend(checked.erased.iter().map(|erased| format!("  erased: {erased}")));
    lines.join("\n")
}
