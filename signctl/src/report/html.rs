//! A report as one HTML file: no script, nothing to load, and every text escaped. It is black on white, and is
//! to be printed as it is.

use std::fmt::Write as _;

use super::page::{Block, Page, Section};

/// Only what is in the file itself is shown, whatever got into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "\
body{font:15px/1.45 sans-serif;color:#000;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;border-bottom:2px solid #000;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-size:13px}
th,td{border:1px solid #777;padding:.25rem .4rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#eee}thead{display:table-header-group}tr{break-inside:avoid}
pre{border:1px solid #777;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px}
figure{margin:1rem 0;break-inside:avoid}figure svg{max-width:100%;height:auto}
figcaption{font-size:13px}.alarm{border:4px double #000;padding:.6rem;font-weight:bold}
@media print{body{margin:0;max-width:none;font-size:11px}h2{break-after:avoid}table,pre{font-size:9px}}";

/// The whole file.
pub(super) fn html(page: &Page) -> String {
    let title = escaped(&page.title);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
    );
    for section in &page.sections {
        put(&mut out, section);
    }
    out.push_str("</body>\n</html>\n");
    out
}

// Writing to a string does not fail.
fn put(out: &mut String, Section { title, blocks }: &Section) {
    let _ = writeln!(out, "<section>\n<h2>{}</h2>", escaped(title));
    for block in blocks {
        let _ = match block {
            Block::Text(text) => writeln!(out, "<p>{}</p>", escaped(text)),
            Block::Alarm(text) => writeln!(out, "<p class=\"alarm\">{}</p>", escaped(text)),
            Block::Lines(lines) => writeln!(out, "<pre>{}</pre>", escaped(lines)),
            Block::Table(head, rows) => writeln!(out, "{}", table(head, rows)),
            Block::Picture(caption, svg) => {
                let (caption, svg) = (escaped(caption), svg.markup());
                writeln!(
                    out,
                    "<figure role=\"img\" aria-label=\"{caption}\">\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>"
                )
            }
        };
    }
    out.push_str("</section>\n");
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let head = cells("th", &mut head.iter().copied());
    let rows = rows.iter().map(|row| cells("td", &mut row.iter().map(String::as_str)));
    let rows = rows.collect::<Vec<_>>().join("\n");
    format!("<table>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table>")
}

/// A text in HTML, in an element or in a quoted attribute. What a reader could not see stands there as
/// `\u{202e}`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text::lines(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</pre><script>alert('1')</script> \"&amp; \u{202e}\u{0}";
    const HARMLESS: &str = "&lt;/pre&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt; &quot;&amp;amp; \\u{202e}\\u{0}";

    #[test]
    fn every_text_of_a_page_is_escaped() {
        let hostile = || HOSTILE.to_owned();
        let blocks = vec![
            Block::Text(hostile()),
            Block::Alarm(hostile()),
            Block::Lines(hostile()),
            Block::Table(&["one", "two"], vec![vec![hostile(), hostile()]]),
        ];
        let page = Page { title: hostile(), sections: vec![Section { title: "A < B", blocks }] };
        let html = html(&page);
        assert_eq!(html.matches(HARMLESS).count(), 7, "{html}");
        assert!(html.contains("<h2>A &lt; B</h2>") && !html.contains("<script"), "{html}");
    }
}
