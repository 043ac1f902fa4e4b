//! Links between our pages, and to our files, lead somewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::ensure;

fn pages(dir: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
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

/// Every page of ours, wherever it is.
fn all_pages() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    pages(&super::root(), &mut found)?;
    ensure!(found.len() > 30, "{} pages", found.len());
    Ok(found)
}

#[test]
fn every_relative_link_of_a_page_leads_to_a_file() -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for page in all_pages()? {
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

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || ['-', '_'].contains(c)).collect()
}

#[test]
fn every_anchor_of_a_link_is_a_heading() -> anyhow::Result<()> {
    for page in all_pages()? {
        let text = fs::read_to_string(&page)?;
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for (file, wanted) in
            targets.filter(|target| !target.contains("://")).filter_map(|t| t.split_once('#'))
        {
            let other = page.parent().map(|dir| dir.join(file)).filter(|_| !file.is_empty());
            let headings = fs::read_to_string(other.as_ref().unwrap_or(&page))?;
            let mut headings = headings.lines().filter(|line| line.starts_with('#'));
            let found = headings.any(|line| anchor(line.trim_start_matches('#').trim()) == wanted);
            ensure!(found, "{}: there is no heading for {file}#{wanted}", page.display());
        }
    }
    Ok(())
}

/// Paths of source files between backticks: from the top, from `crates`, or from the page's own crate.
#[test]
fn every_source_file_that_a_page_names_exists() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for page in all_pages()? {
        let text = fs::read_to_string(&page)?;
        let named = text.split('`').skip(1).step_by(2);
        let named =
            named.filter(|name| name.contains("src/") || (name.contains('/') && name.ends_with(".rs")));
        for name in named.filter(|name| !name.contains([' ', '*', '{', '…'])) {
            let beside = page.parent().map(|dir| dir.join(name));
            let known =
                [Some(super::root().join(name)), Some(super::root().join("crates").join(name)), beside];
            if !known.iter().flatten().any(|path| path.exists()) {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    ensure!(missing.is_empty(), "files that pages name and that are not there:\n{}", missing.join("\n"));
    Ok(())
}

/// Functions and types that a page names beside their file, as "`name` in `path.rs`", also several of them.
#[test]
fn what_a_page_names_beside_a_file_is_defined_there() -> anyhow::Result<()> {
    let (mut missing, mut count) = (Vec::new(), 0);
    for page in all_pages()? {
        let text = fs::read_to_string(&page)?;
        let (mut names, mut between) = (Vec::new(), "");
        for (place, piece) in text.split('`').enumerate() {
            let chained = matches!(between.trim(), "in" | "and" | "," | ", and");
            if place % 2 == 0 {
                between = piece;
                continue;
            }
            if !chained {
                names.clear();
            }
            if !piece.ends_with(".rs") {
                names.push(piece.rsplit("::").next().unwrap_or_default());
            } else if between.trim() == "in" {
                let paths = [super::root().join(piece), super::root().join("crates").join(piece)];
                let code = paths.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
                count += names.len();
                let defined = |name: &&str| {
                    ["fn", "struct", "enum", "trait"]
                        .iter()
                        .any(|kind| code.contains(&format!("{kind} {name}")))
                };
                let absent = names.iter().filter(|name| !defined(name));
                missing.extend(absent.map(|name| format!("{}: {name} in {piece}", page.display())));
            }
        }
    }
    ensure!(missing.is_empty() && count > 10, "{count} names; not there:\n{}", missing.join("\n"));
    Ok(())
}

#[test]
fn every_page_of_the_book_is_in_its_summary_and_the_front_page_is_short() -> anyhow::Result<()> {
    let book = super::root().join("docs/src");
    let summary = fs::read_to_string(book.join("SUMMARY.md"))?;
    let mut found = Vec::new();
    pages(&book, &mut found)?;
    for page in found.iter().filter_map(|page| page.strip_prefix(&book).ok()) {
        let listed = summary.contains(&format!("]({})", page.display()));
        ensure!(listed || page == Path::new("SUMMARY.md"), "{} is not in SUMMARY.md", page.display());
    }
    let front = fs::read_to_string(super::root().join("README.md"))?.lines().count();
    ensure!(front <= 120, "README.md has {front} lines");
    Ok(())
}
