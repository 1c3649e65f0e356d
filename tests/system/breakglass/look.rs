//! A report as a person sees it: in chromium, on paper, and without colour.

use std::io::Read as _;
use std::path::Path;

use flate2::read::ZlibDecoder;
use system_tests::Scratch;
use system_tests::breakglass::succeeds;
use system_tests::programs::system;

const WIDTH: usize = 1000;
const HEIGHT: usize = 6000;

/// A picture: red, green and blue of each point.
struct Picture {
    width: usize,
    height: usize,
    points: Vec<[u8; 3]>,
}

/// Looks at a report in the way of a reader.
pub(super) fn looks(page: &Path) {
    let scratch = Scratch::new();
    let shown = picture(&scratch, page, "shown.png");
    assert_eq!((shown.width, shown.height), (WIDTH, HEIGHT));
    // Black on white, so that nothing is lost where there is no colour.
    let coloured = shown.points.iter().filter(|[red, green, blue]| {
        red.abs_diff(*green).max(green.abs_diff(*blue)).max(red.abs_diff(*blue)) > 12
    });
    assert_eq!(coloured.count(), 0, "{}", page.display());
    let ink = shown.ink();
    assert!((10_000..shown.points.len() / 3).contains(&ink), "{ink} points are dark");
    // Nothing is beside the page.
    let right = |at: usize| at % WIDTH > WIDTH - 8;
    let beside = shown.points.iter().enumerate().filter(|(at, point)| right(*at) && is_dark(point));
    assert_eq!(beside.count(), 0, "something is cut off at the right");

    // The pictures are drawn, and not only there.
    let text = std::fs::read_to_string(page).unwrap();
    let drawn = text.matches("<svg").count();
    assert!(drawn > 2, "{drawn}");
    let hidden = text.replace("<style>", "<style>figure svg *{visibility:hidden}");
    let without = picture(&scratch, &scratch.write("hidden.html", hidden), "hidden.png");
    assert!(without.ink() + 2_000 < ink, "{} of {ink} without the pictures", without.ink());

    // On paper: some pages, and no page is empty.
    let paper = scratch.path("paper.pdf");
    let print = format!("--print-to-pdf={}", paper.display());
    succeeds(chromium(&scratch).args([&print, "--no-pdf-header-footer"]).arg(url(page)));
    let bytes = std::fs::read(&paper).unwrap();
    assert!(bytes.starts_with(b"%PDF-"));
    let pages = bytes.windows(11).filter(|bytes| bytes == b"/Type /Page").count();
    assert!((2..40).contains(&pages), "{pages} pages");
}

/// It has a profile of its own, and no sandbox of its own: tests run as root.
fn chromium(scratch: &Scratch) -> std::process::Command {
    let mut command = system("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-lcd-text"]);
    command.args(["--hide-scrollbars", "--no-first-run", "--disable-background-networking"]);
    command.arg(format!("--user-data-dir={}", scratch.path("profile").display()));
    command
}

fn url(page: &Path) -> String {
    format!("file://{}", page.display())
}

fn picture(scratch: &Scratch, page: &Path, name: &str) -> Picture {
    let file = scratch.path(name);
    let shot = format!("--screenshot={}", file.display());
    let size = format!("--window-size={WIDTH},{HEIGHT}");
    succeeds(chromium(scratch).args([shot, size]).arg(url(page)));
    Picture::read(&std::fs::read(&file).unwrap())
}

fn is_dark(point: &[u8; 3]) -> bool {
    point.iter().all(|value| *value < 128)
}

impl Picture {
    fn ink(&self) -> usize {
        self.points.iter().filter(|point| is_dark(point)).count()
    }

    /// Reads PNG (RFC 2083) as chromium writes it: eight bits, red, green, blue and perhaps alpha, not interlaced.
    fn read(png: &[u8]) -> Self {
        let mut rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap();
        let (mut head, mut packed) = (Vec::new(), Vec::new());
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let len = usize::try_from(u32::from_be_bytes(*len)).unwrap();
            let (kind, data) = (&after[..4], &after[4..4 + len]);
            match kind {
                b"IHDR" => head = data.to_vec(),
                b"IDAT" => packed.extend_from_slice(data),
                _ => {}
            }
            rest = &after[4 + len + 4..];
        }
        let number = |at: usize| {
            let bytes: [u8; 4] = head[at..at + 4].try_into().unwrap();
            usize::try_from(u32::from_be_bytes(bytes)).unwrap()
        };
        let (width, height) = (number(0), number(4));
        let bytes = match head[8..13] {
            [8, 2, 0, 0, 0] => 3,
            [8, 6, 0, 0, 0] => 4,
            ref other => panic!("PNG of the form {other:?}"),
        };
        let mut lines = Vec::new();
        ZlibDecoder::new(&packed[..]).read_to_end(&mut lines).unwrap();
        let mut above = vec![0_u8; width * bytes];
        let mut points = Vec::with_capacity(width * height);
        for line in lines.chunks_exact(1 + width * bytes) {
            let mut now = line[1..].to_vec();
            for at in 0..now.len() {
                let left = if at < bytes { 0 } else { now[at - bytes] };
                let corner = if at < bytes { 0 } else { above[at - bytes] };
                let guess = match line[0] {
                    0 => 0,
                    1 => left,
                    2 => above[at],
                    3 => u8::midpoint(left, above[at]),
                    4 => paeth(left, above[at], corner),
                    other => panic!("filter {other}"),
                };
                now[at] = now[at].wrapping_add(guess);
            }
            points.extend(now.chunks_exact(bytes).map(|point| [point[0], point[1], point[2]]));
            above = now;
        }
        Self { width, height, points }
    }
}

/// Whichever of the three is nearest to left + above - corner.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i16::from);
    let far = |one: i16| (a + b - c - one).abs();
    if far(a) <= far(b) && far(a) <= far(c) {
        left
    } else if far(b) <= far(c) {
        above
    } else {
        corner
    }
}
