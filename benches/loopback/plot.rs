//! Bars in an SVG picture.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 250.0;
const VALUES: f64 = 70.0;
const BAR: f64 = 14.0;
const GAP: f64 = 12.0;
const COLOURS: [(&str, &str); 6] = [
    ("direct", "#9aa0a6"),
    ("nginx", "#4f7f52"),
    ("gate, all off", "#1f5fa8"),
    ("gate, as shipped", "#6a8fd0"),
    ("gate, all on", "#b0562b"),
    ("gate, stdio", "#8a5aa8"),
];

/// The bars of one row.
pub struct Group {
    pub name: &'static str,
    pub bars: Vec<Bar>,
}

/// One bar, from zero on.
pub struct Bar {
    pub name: &'static str,
    pub value: f64,
}

/// A picture of all groups, one below the other. Each has a scale of its own: what is compared
/// stands side by side.
pub fn bars(title: &str, groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 50.0;
    for group in groups {
        let most = group.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for (at, bar) in group.bars.iter().enumerate() {
            if at == 0 {
                text(&mut body, 8.0, y, "start", group.name);
            }
            let width = (WIDTH - LABELS - VALUES) * bar.value / most;
            let colour = COLOURS.iter().find(|(name, _)| *name == bar.name);
            let colour = colour.map_or("#000000", |(_, colour)| colour);
            writeln!(
                body,
                r#"<rect x="{LABELS}" y="{y:.0}" width="{width:.1}" height="{BAR}" fill="{colour}"/>"#
            )
            .ok();
            let digits = if bar.value < 100.0 { 1 } else { 0 };
            text(&mut body, LABELS + width + 5.0, y, "start", &format!("{:.digits$}", bar.value));
            y += BAR + 2.0;
        }
        y += GAP;
    }
    let mut legend = String::new();
    for ((name, colour), at) in COLOURS.iter().zip(0_u8..) {
        let x = 8.0 + f64::from(at) * 140.0;
        writeln!(legend, r#"<rect x="{x}" y="26" width="12" height="12" fill="{colour}"/>"#).ok();
        text(&mut legend, x + 17.0, 24.0, "start", name);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"#ffffff\"/>\n<text x=\"8\" y=\"16\" font-weight=\"bold\">{title}</text>\n{legend}\
         {body}</svg>\n"
    )
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, said: &str) {
    let y = y + BAR - 3.0;
    writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{said}</text>"#).ok();
}
