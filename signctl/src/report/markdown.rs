//! A report as Markdown: the same words without the pictures, which Markdown cannot hold.

use std::fmt::Write as _;

use super::page::{Block, Page, Section};

/// The whole file.
pub(super) fn markdown(page: &Page) -> String {
    let mut out = format!("# {}\n", escaped(&page.title));
    for section in &page.sections {
        put(&mut out, section);
    }
    out
}

// Writing to a string does not fail.
fn put(out: &mut String, Section { title, blocks }: &Section) {
    let _ = write!(out, "\n## {}\n", escaped(title));
    for block in blocks {
        let _ = match block {
            Block::Text(text) => write!(out, "\n{}\n", escaped(text)),
            Block::Alarm(text) => write!(out, "\n**{}**\n", escaped(text)),
            Block::Lines(lines) => write!(out, "\n{}\n", fenced(lines)),
            Block::Table(head, rows) => write!(out, "\n{}", table(head, rows)),
            Block::Picture(caption, _) => {
                write!(out, "\n(Picture in the HTML file: {})\n", escaped(caption))
            }
        };
    }
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(head.iter().map(|cell| escaped(cell)).collect());
    out.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
    for row in rows {
        out.push_str(&line(row.iter().map(|cell| escaped(cell)).collect()));
    }
    out
}

/// Lines between fences that are longer than any run of backticks in them.
fn fenced(lines: &str) -> String {
    let lines = text::lines(lines);
    let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", lines.trim_end_matches('\n'))
}

/// A text on one line, in which nothing is Markdown or HTML.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text::line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_markup() {
        let hostile = "a|b <i> ![x](y) `c`\n# d".to_owned();
        let harmless = "a\\|b &lt;i&gt; \\!\\[x\\](y) \\`c\\`\\\\n\\# d";
        let blocks = vec![
            Block::Text(hostile.clone()),
            Block::Table(&["one"], vec![vec![hostile.clone()]]),
            Block::Lines("one\n````\ntwo".to_owned()),
        ];
        let page = Page { title: hostile, sections: vec![Section { title: "S", blocks }] };
        let text = markdown(&page);
        assert_eq!(text.matches(harmless).count(), 3, "{text}");
        assert!(text.contains(&format!("| {harmless} |\n")), "{text}");
        assert!(text.contains("`````text\none\n````\ntwo\n`````\n"), "{text}");
    }
}
