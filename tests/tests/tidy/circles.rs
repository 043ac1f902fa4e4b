//! No files import each other in a circle: what a file needs stands below it.
//!
//! An arrow goes from a file to the file that defines what it names by a path that begins with `crate`, `super`, `self` or a
//! module of its own. A re-export is a sign at the door, not a need: it gives no arrow, and a name that is imported through
//! it points to where it is defined. Tests may name whatever they test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, ensure};
use syn::{
    Attribute, File, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

/// The path of a module in its crate; empty for the root.
type Module = Vec<String>;

/// The files that each file of a crate takes something from.
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

/// What one file says.
#[derive(Default)]
struct Source {
    /// Modules that it declares.
    children: BTreeSet<String>,
    /// Paths that it names, from whatever they are relative to.
    named: Vec<Vec<String>>,
    /// What it re-exports: the name that others see, and where it comes from.
    exported: Vec<(String, Vec<String>)>,
}

fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return attribute.path().is_ident("test") };
        list.path.is_ident("cfg") && list.tokens.to_string() == "test"
    })
}

fn leaves(tree: &UseTree, before: &[String], found: &mut Vec<(String, Vec<String>)>) {
    let with = |name: String| [before, &[name]].concat();
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(path.ident.to_string()), found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, before, found)),
        UseTree::Name(name) if name.ident == "self" => {
            found.push((before.last().cloned().unwrap_or_default(), before.to_vec()));
        }
        UseTree::Name(name) => found.push((name.ident.to_string(), with(name.ident.to_string()))),
        UseTree::Rename(rename) => {
            found.push((rename.rename.to_string(), with(rename.ident.to_string())));
        }
        UseTree::Glob(_) => found.push(("*".into(), with("*".into()))),
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let mut found = Vec::new();
        leaves(&item.tree, &[], &mut found);
        match item.vis {
            Visibility::Inherited => self.named.extend(found.into_iter().map(|(_, path)| path)),
            _ => self.exported.extend(found),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>();
        if names.len() > 1 {
            self.named.push(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !for_tests(&item.attrs) {
            self.children.insert(item.ident.to_string());
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item(&mut self, item: &'ast Item) {
        visit::visit_item(self, item);
    }
}

/// The modules of a crate by their files; those of tests are left out.
fn modules(dir: &Path, at: &[String], found: &mut BTreeMap<Module, Source>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == "tests" || stem == "main" {
            continue;
        }
        let mut module = at.to_vec();
        if stem != "lib" {
            module.push(stem);
        }
        if path.is_dir() {
            modules(&path, &module, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file: File =
                syn::parse_file(&fs::read_to_string(&path)?).with_context(|| path.display().to_string())?;
            let mut source = Source::default();
            source.visit_file(&file);
            found.insert(module, source);
        }
    }
    Ok(())
}

/// The path from the crate's root, of one that is named in `module`; none where it leads out of the crate.
fn absolute(path: &[String], module: &Module, source: &Source) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module.as_slice(), rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|name| *name == "super").count();
            let above = module.get(..module.len().checked_sub(ups)?)?;
            Some([above, &path[ups..]].concat())
        }
        child if source.children.contains(child) => Some([module.as_slice(), path].concat()),
        _ => None,
    }
}

/// The file that defines what an absolute path names.
fn defined(path: &[String], modules: &BTreeMap<Module, Source>, depth: u8) -> Option<Module> {
    let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let (module, rest) = (path[..length].to_vec(), &path[length..]);
    let source = modules.get(&module)?;
    let exported = rest.first().and_then(|name| source.exported.iter().find(|(known, _)| known == name));
    match exported.and_then(|(_, path)| absolute(path, &module, source)) {
        Some(further) if depth > 0 => defined(&further, modules, depth - 1),
        // What comes from another crate is nobody's here.
        None if exported.is_some() => None,
        _ => Some(module),
    }
}

fn arrows(dir: &Path) -> anyhow::Result<Arrows> {
    let mut found = BTreeMap::new();
    modules(dir, &[], &mut found)?;
    let arrows = found.iter().map(|(module, source)| {
        let named = source.named.iter().filter_map(|path| absolute(path, module, source));
        let targets = named.filter_map(|path| defined(&path, &found, 4)).filter(|target| target != module);
        (module.clone(), targets.collect())
    });
    Ok(arrows.collect())
}

/// Whoever can be reached from `from`.
fn reached<'a>(from: &'a Module, arrows: &'a Arrows) -> BTreeSet<&'a Module> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for target in arrows.get(module).into_iter().flatten() {
            if seen.insert(target) {
                next.push(target);
            }
        }
    }
    seen
}

/// The arrows of a crate's source folder that are part of a circle.
pub(crate) fn circles(dir: &Path) -> anyhow::Result<Vec<String>> {
    let arrows = arrows(dir)?;
    let name = |module: &Module| if module.is_empty() { "lib".to_owned() } else { module.join("/") };
    let back = |from: &Module, to: &Module| reached(to, &arrows).contains(from);
    let all = arrows.iter().flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)));
    Ok(all
        .filter(|(from, to)| back(from, to))
        .map(|(from, to)| format!("{}: {} -> {}", dir.display(), name(from), name(to)))
        .collect())
}

#[test]
fn no_files_import_in_a_circle() -> anyhow::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(super::root().join("crates"))? {
        found.extend(circles(&entry?.path().join("src"))?);
    }
    ensure!(found.is_empty(), "files that import in a circle:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn a_circle_is_found_also_through_a_re_export() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text);
    write("lib.rs", "mod a; mod b; pub use a::A;")?;
    write("a.rs", "pub struct A; fn f() { crate::b::g() }")?;
    write("b.rs", "pub fn g() {}")?;
    ensure!(circles(dir.path())?.is_empty());
    write("b.rs", "use crate::A; pub fn g() {}")?;
    ensure!(circles(dir.path())?.len() == 2);
    write("b.rs", "pub fn g() {} #[cfg(test)] mod tests { use crate::A; }")?;
    ensure!(circles(dir.path())?.is_empty());
    Ok(())
}
