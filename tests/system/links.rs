//! The pages hang together: each link leads somewhere, and each page can be reached.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use system_tests::programs::repository;

use crate::tidy::{files, text};

/// The target of each link of a page that leads to a file of ours, as path and heading.
fn links(page: &Path) -> Vec<(String, String)> {
    let mut in_code = false;
    let lines = text(page);
    let prose = lines.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    });
    let prose = prose.collect::<Vec<_>>().join("\n");
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let ours = targets.filter(|target| !target.contains(':') && !target.contains(' '));
    ours.map(|target| {
        let (path, heading) = target.split_once('#').unwrap_or((target, ""));
        (path.to_owned(), heading.to_owned())
    })
    .collect()
}

/// `base/../x` without the detour.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            out.pop();
        } else {
            out.push(part);
        }
    }
    out
}

/// A heading's name in a link, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_heading(page: &Path, wanted: &str) -> bool {
    text(page)
        .lines()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    for page in files(".md").iter().filter(|page| !page.ends_with("CHANGELOG.md")) {
        for (path, heading) in links(page) {
            let target = match path.as_str() {
                "" => page.clone(),
                path => plain(&page.parent().unwrap().join(path)),
            };
            assert!(target.exists(), "{} links to {path}", page.display());
            let is_page = target.extension().is_some_and(|ending| ending == "md");
            assert!(
                heading.is_empty() || !is_page || has_heading(&target, &heading),
                "{} links to {path}#{heading}",
                page.display()
            );
        }
    }
}

#[test]
fn every_page_is_of_one_kind_and_can_be_reached_from_the_readme() {
    let root = repository();
    let mut reached = BTreeSet::new();
    let mut next = vec![root.join("README.md")];
    while let Some(page) = next.pop() {
        if !reached.insert(page.clone()) {
            continue;
        }
        let targets = links(&page).into_iter().filter(|(path, _)| path.ends_with(".md"));
        next.extend(targets.map(|(path, _)| plain(&page.parent().unwrap().join(path))));
    }
    for page in files(".md").iter().filter(|page| page.starts_with(root.join("docs"))) {
        let kind = page.strip_prefix(root.join("docs")).unwrap().components().next().unwrap();
        let kinds = ["start", "operating", "reference", "internals"];
        assert!(
            kinds.iter().any(|one| kind.as_os_str() == *one),
            "{} is in none of docs/{kinds:?}",
            page.display()
        );
        assert!(reached.contains(page), "no page leads to {}", page.display());
    }
}

#[test]
fn the_map_is_small() {
    let bytes = text(&repository().join("ARCHITECTURE.md")).len();
    assert!(bytes <= 8 * 1024, "ARCHITECTURE.md has {bytes} bytes: move details to docs/internals");
}
