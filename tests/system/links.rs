//! The pages hang together: each link leads somewhere, each page can be reached, and what a page
//! names is there: paths, flags, keys of the configurations, metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use system_tests::programs::repository;

use crate::metrics::named_in_the_code;
use crate::output::{below, help};
use crate::tidy::{files, text};

/// Flags of other programs that a page names apart from their command line.
const FLAGS_OF_OTHERS: [&str; 4] = ["--campaign", "--format", "--stop-timeout", "--tmpfs"];

/// Every page but the one that names what was there then.
pub(crate) fn pages() -> Vec<PathBuf> {
    files(".md").into_iter().filter(|page| !page.ends_with("CHANGELOG.md")).collect()
}

/// A page's prose and its blocks of code.
pub(crate) fn prose_and_code(page: &Path) -> (String, String) {
    let (mut prose, mut code, mut in_code) = (String::new(), String::new(), false);
    for line in text(page).lines() {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        let part = if in_code { &mut code } else { &mut prose };
        if !fence {
            part.push_str(line);
            part.push('\n');
        }
    }
    (prose, code)
}

/// What stands in backticks.
pub(crate) fn spans(prose: &str) -> Vec<String> {
    let spans = prose.split('`').skip(1).step_by(2);
    spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The target of each link of a page that leads to a file of ours, as path and heading.
fn links(page: &Path) -> Vec<(String, String)> {
    let (prose, _) = prose_and_code(page);
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
    for page in &pages() {
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

/// Sources, configurations and scripts name pages too: in errors, in comments, in alerts.
#[test]
fn a_page_that_a_file_names_exists() {
    let mut found = 0;
    for ending in [".rs", ".toml", ".yml", ".yaml", ".service", ".sh", ".py"] {
        for file in files(ending) {
            for rest in text(&file).split("docs/").skip(1) {
                let is_path =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_/.#".contains(c);
                let named = rest.split(|c| !is_path(c)).next().unwrap();
                let (path, heading) = named.split_once('#').unwrap_or((named, ""));
                if !path.contains('/') || !path.ends_with(".md") {
                    continue;
                }
                let page = repository().join("docs").join(path);
                assert!(page.exists(), "{} names docs/{path}", file.display());
                let heading = heading.trim_end_matches('.');
                let is_there = heading.is_empty() || has_heading(&page, heading);
                assert!(is_there, "{} names docs/{path}#{heading}", file.display());
                found += 1;
            }
        }
    }
    assert!(found > 60, "{found} pages are named");
}

/// A path whose first directory is one of ours is a path from the root; so is that of a source.
/// `*` stands for anything, and a part in capitals for the reader's own.
#[test]
fn a_path_that_a_page_names_exists() {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.*".contains(c);
    for page in &pages() {
        for path in spans(&prose_and_code(page).0) {
            let parts: Vec<_> = path.trim_end_matches('/').split('/').collect();
            let is_path = parts.len() > 1
                && parts.iter().all(|part| !part.is_empty() && part.chars().all(is_part));
            let is_users = path
                .split(['/', '.'])
                .any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase()));
            let is_source = [".rs", ".py", ".sh"].iter().any(|ending| path.ends_with(ending));
            let is_ours = is_source || repository().join(parts[0]).is_dir();
            if !is_path
                || is_users
                || !is_ours
                || path.starts_with(['.', '~'])
                || parts[0] == "target"
            {
                continue;
            }
            let (known, pattern) = path
                .split_once('*')
                .map_or((path.as_str(), None), |(known, _)| (known, Some(known)));
            let exists = match pattern.and_then(|known| known.rsplit_once('/')) {
                None => repository().join(known).exists(),
                Some((directory, begin)) => std::fs::read_dir(repository().join(directory))
                    .is_ok_and(|mut all| {
                        all.any(|file| {
                            file.is_ok_and(|file| {
                                file.file_name().to_string_lossy().starts_with(begin)
                            })
                        })
                    }),
            };
            assert!(exists, "{} names {path}", page.display());
        }
    }
}

/// What the programs say of themselves, asked once each.
#[derive(Default)]
struct Helps(BTreeMap<String, String>);

impl Helps {
    fn of(&mut self, verb: &str) -> String {
        self.0.entry(verb.to_owned()).or_insert_with(|| help(verb)).clone()
    }

    /// Every flag of a verb and of those below it.
    fn flags(&mut self, verb: &str) -> BTreeSet<String> {
        let help = self.of(verb);
        let below = below(&help).into_iter().flat_map(|name| self.flags(&format!("{verb} {name}")));
        let below: BTreeSet<_> = below.collect();
        flags(&help).into_iter().chain(below).collect()
    }
}

/// `--name`, wherever it stands.
fn flags(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(|c| !is_part(c));
    let flags =
        words.filter(|word| word.starts_with("--") && word.len() > 3 && !word.starts_with("---"));
    flags.map(str::to_owned).collect()
}

const PROGRAMS: [&str; 4] = ["signing-proxy", "signctl", "breakglass-signer", "signing-trail"];

/// The program that a command begins with, after what a shell takes for itself.
fn program<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let mut is_user = false;
    let first = words.find(|word| {
        let is_shells =
            is_user || word.contains('=') || ["sudo", "exec", "$", "if", "!"].contains(word);
        is_user = *word == "-u";
        !is_shells && !is_user
    })?;
    let name = first.rsplit('/').next()?;
    PROGRAMS.into_iter().find(|program| *program == name)
}

#[test]
fn a_flag_that_a_page_names_is_one_of_its_verb() {
    let mut helps = Helps::default();
    let all: BTreeSet<_> = PROGRAMS.iter().flat_map(|program| helps.flags(program)).collect();
    let mut judged = 0;
    for page in &pages() {
        let (prose, code) = prose_and_code(page);
        let spans = spans(&prose);
        for span in spans.iter().filter(|span| span.starts_with("--")) {
            let named = flags(span.split(' ').next().unwrap());
            let is_known =
                |flag: &String| all.contains(flag) || FLAGS_OF_OTHERS.contains(&flag.as_str());
            assert!(named.iter().all(is_known), "{} names {span}", page.display());
        }
        let code = code.replace("\\\n", " ");
        let lines = spans.iter().map(String::as_str).chain(code.lines());
        for command in lines.flat_map(|line| line.split(['|', ';', '&', '('])) {
            let command = command.split(" # ").next().unwrap();
            let mut words = command.split_whitespace();
            let Some(program) = program(&mut words) else { continue };
            let (mut verb, mut used) = (program.to_owned(), BTreeSet::new());
            for word in words {
                if word.starts_with("--") {
                    used.extend(flags(word));
                } else if below(&helps.of(&verb)).iter().any(|name| name == word) {
                    verb = format!("{verb} {word}");
                }
            }
            let known = flags(&helps.of(&verb));
            for flag in used {
                assert!(
                    known.contains(&flag),
                    "{}: {verb} has no {flag}: {command}",
                    page.display()
                );
                judged += 1;
            }
        }
    }
    assert!(judged > 100, "{judged} flags were looked at");
}

/// Every section of our configurations with its keys, also those that are commented out.
fn sections() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in ["signing-proxy", "breakglass-signer", "signing-trail"] {
        let mut section = String::new();
        for line in text(&repository().join(format!("config/{name}.toml"))).lines() {
            let line = line.strip_prefix('#').map_or(line, str::trim_start);
            let is_word = |word: &str| {
                word.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c))
            };
            let header = line.trim_matches(['[', ']']);
            if line.starts_with('[') && line.ends_with(']') && is_word(header) {
                header.clone_into(&mut section);
                found.entry(section.clone()).or_default();
            } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_word(key)) {
                found.entry(section.clone()).or_default().insert(key.to_owned());
            }
        }
    }
    found
}

#[test]
fn a_section_or_key_that_a_page_names_is_in_a_configuration() {
    let sections = sections();
    let is_word = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let is_file = |ending: &str| ["rs", "sock", "json", "txt", "toml", "pem"].contains(&ending);
    // Records have fields of such names, and a contributor has configurations of others.
    let pages = pages()
        .into_iter()
        .filter(|page| !page.ends_with("journal.md") && !page.ends_with("CONTRIBUTING.md"));
    let mut judged = 0;
    for page in pages {
        for span in spans(&prose_and_code(&page).0) {
            let named = span.split([' ', '=']).next().unwrap();
            if named.starts_with('[') && named.ends_with(']') {
                let section = named.trim_matches(['[', ']']);
                if section.starts_with(|c: char| c.is_ascii_lowercase()) {
                    assert!(sections.contains_key(section), "{} names {span}", page.display());
                    judged += 1;
                }
                continue;
            }
            let Some((section, key)) = named.rsplit_once('.') else { continue };
            if let Some(keys) = sections.get(section).filter(|_| is_word(key) && !is_file(key)) {
                let is_key = keys.contains(key) || sections.contains_key(named);
                assert!(is_key, "{} names {span}", page.display());
                judged += 1;
            }
        }
    }
    assert!(judged > 100, "{judged} sections and keys were looked at");
}

#[test]
fn a_metric_that_a_page_names_exists() {
    let metrics = named_in_the_code();
    // Reasons, records and fields have such names too.
    let sources: Vec<_> = files(".rs").iter().map(|file| text(file)).collect();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<_> = sources.iter().flat_map(|text| text.split(|c| !is_part(c))).collect();
    let begins =
        ["signing_proxy_", "kms_sign", "kms_errors", "pkcs11_worker_", "audit_", "breakglass_"];
    let mut judged = 0;
    for page in &pages() {
        let (prose, code) = prose_and_code(page);
        for word in spans(&prose)
            .iter()
            .flat_map(|span| span.split(|c| !is_part(c) && c != '*'))
            .chain(code.split(|c| !is_part(c)))
        {
            if !begins.iter().any(|begin| word.starts_with(begin)) {
                continue;
            }
            let ends = ["_bucket", "_sum", "_count"];
            let family = ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            let exists = match word.split_once('*') {
                Some((begin, _)) => metrics.iter().any(|name| name.starts_with(begin)),
                None => metrics.contains(family) || words.contains(word),
            };
            assert!(exists, "{} names {word}", page.display());
            judged += 1;
        }
    }
    assert!(judged > 100, "{judged} names were looked at");
}
