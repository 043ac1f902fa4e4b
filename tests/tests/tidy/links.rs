//! Links between our pages, and to our files, lead somewhere.

use std::{fs, path::Path};

use anyhow::ensure;

fn pages(dir: &Path, found: &mut Vec<std::path::PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
            pages(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn every_relative_link_of_a_page_leads_to_a_file() -> anyhow::Result<()> {
    let mut found = Vec::new();
    pages(&super::root(), &mut found)?;
    ensure!(found.len() > 10);
    let mut broken = Vec::new();
    for page in found {
        let text = fs::read_to_string(&page)?;
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = target.split('#').next().unwrap_or_default();
            if !page.parent().unwrap_or(Path::new(".")).join(file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    Ok(())
}

/// Paths of crates that a page names between backticks, such as `router/src/intake.rs`.
#[test]
fn every_file_that_the_architecture_page_names_exists() -> anyhow::Result<()> {
    let page = fs::read_to_string(super::root().join("ARCHITECTURE.md"))?;
    let named =
        page.split('`').skip(1).step_by(2).filter(|name| name.contains("/src/") || name.ends_with(".rs"));
    let crates = super::root().join("crates");
    let missing: Vec<&str> = named
        .filter(|name| name.contains('/') && !name.contains(' '))
        .filter(|name| {
            let name = name.strip_prefix("crates/").unwrap_or(name);
            !crates.join(name).exists() && !super::root().join(name).exists()
        })
        .collect();
    ensure!(missing.is_empty(), "ARCHITECTURE.md names files that are not there: {missing:?}");
    Ok(())
}
