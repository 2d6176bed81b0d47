//! What ring 0 is made of: our crates and other people's, as cargo resolves them for the bare machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;
use crate::toolchain::TARGET;
use crate::tree::Tree;

/// The crates that ring 0's binary links.
pub struct Crates {
    /// Ours: name and folder of sources.
    pub own: BTreeMap<String, PathBuf>,
    /// Other people's, as `name version`; also those that they need in turn.
    pub others: BTreeSet<String>,
    /// Those of them that are procedural macros or only used by such: they run in the compiler.
    pub at_build: BTreeSet<String>,
}

/// Asks cargo.
///
/// # Errors
/// When cargo cannot answer, or its answer is not understood.
pub fn find(tree: &Tree) -> Result<Crates> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = shell::clean(cargo);
    command.current_dir(tree.root()).args([
        "metadata",
        "--format-version=1",
        "--filter-platform",
        TARGET,
    ]);
    let answer: Value = serde_json::from_str(&shell::read(&mut command)?)?;
    sort(&answer).context("cargo's metadata is not as expected")
}

fn sort(answer: &Value) -> Option<Crates> {
    let by_id = |list: &Value| -> Option<BTreeMap<String, Value>> {
        let all = list.as_array()?.iter();
        all.map(|one| Some((one["id"].as_str()?.to_owned(), one.clone())))
            .collect()
    };
    let packages = by_id(&answer["packages"])?;
    let nodes = by_id(&answer["resolve"]["nodes"])?;
    let (root, _) = packages.iter().find(|(_, p)| p["name"] == "hypervisor")?;
    let mut crates = Crates {
        own: BTreeMap::new(),
        others: BTreeSet::new(),
        at_build: BTreeSet::new(),
    };
    // Each crate with whether it is linked; one that is both is linked.
    let mut open = vec![(root.clone(), true)];
    let mut seen = BTreeMap::new();
    while let Some((id, linked)) = open.pop() {
        let package = packages.get(&id)?;
        let linked = linked && !is_macro(package);
        if seen.get(&id).is_some_and(|before| *before || !linked) {
            continue;
        }
        seen.insert(id.clone(), linked);
        for dependency in nodes.get(&id)?["deps"].as_array()? {
            let kinds = dependency["dep_kinds"].as_array()?;
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push((dependency["pkg"].as_str()?.to_owned(), linked));
            }
        }
    }
    for (id, linked) in seen {
        let package = packages.get(&id)?;
        let name = package["name"].as_str()?;
        if package["source"].is_null() {
            let manifest = PathBuf::from(package["manifest_path"].as_str()?);
            let sources = manifest.parent()?.join("src");
            crates.own.insert(name.to_owned(), sources);
            continue;
        }
        let shown = format!("{name} {}", package["version"].as_str()?);
        if linked {
            crates.others.insert(shown);
        } else {
            crates.at_build.insert(shown);
        }
    }
    Some(crates)
}

fn is_macro(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut kinds = targets.flat_map(|target| target["kind"].as_array().into_iter().flatten());
    kinds.any(|kind| kind == "proc-macro")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_linked_is_told_from_tests_and_macros() {
        let package = |id: &str, source: Value, kind: &str| {
            json!({ "id": id, "name": id, "version": "1.0.0", "source": source, "manifest_path": format!("/t/{id}/Cargo.toml"),
                "targets": [{ "kind": [kind] }] })
        };
        let needs = |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let node = |id: &str, deps: Vec<Value>| json!({ "id": id, "deps": deps });
        let answer = json!({
            "packages": [
                package("hypervisor", Value::Null, "bin"), package("frames", Value::Null, "lib"),
                package("spin", json!("r"), "lib"), package("derive", json!("r"), "proc-macro"),
                package("syn", json!("r"), "lib"), package("proptest", json!("r"), "lib"),
            ],
            "resolve": { "nodes": [
                node("hypervisor", vec![needs("frames", Value::Null), needs("derive", Value::Null)]),
                node("frames", vec![needs("spin", Value::Null), needs("proptest", json!("dev"))]),
                node("spin", vec![]), node("derive", vec![needs("syn", Value::Null)]), node("syn", vec![]),
                node("proptest", vec![]),
            ] },
        });
        let crates = sort(&answer).unwrap();
        assert_eq!(
            crates.own.keys().collect::<Vec<_>>(),
            ["frames", "hypervisor"]
        );
        assert_eq!(
            crates.others.into_iter().collect::<Vec<_>>(),
            ["spin 1.0.0"]
        );
        let at_build: Vec<_> = crates.at_build.into_iter().collect();
        assert_eq!(at_build, ["derive 1.0.0", "syn 1.0.0"]);
    }
}
