//! Bars as SVG.

use std::fmt::Write;

use minijinja::Value;

use crate::{messages::fill, toolbox::Toolbox, web::view::View};

/// One hour.
pub(super) struct Bar {
    /// Two digits: nothing that needs escaping.
    pub(super) label: String,
    pub(super) good: i64,
    pub(super) bad: i64,
}

const WIDTH: i64 = 720;
const HEIGHT: i64 = 150;
const FLOOR: i64 = 125;

/// Stacked bars, failures on top, with the highest number at the top and a text for those who do
/// not see it.
pub(super) fn svg(bars: &[Bar], view: &View, toolbox: &Toolbox) -> Value {
    let most = bars.iter().map(|bar| bar.good + bar.bad).max().unwrap_or(0);
    let (good, bad) = bars.iter().fold((0, 0), |(g, b), bar| (g + bar.good, b + bar.bad));
    let text =
        toolbox.templates().messages().get(view.language, "operate.plot").unwrap_or_default();
    let label = fill(text, |name| match name {
        "finished" => Some(good.to_string()),
        "failed" => Some(bad.to_string()),
        "most" => Some(most.to_string()),
        _ => None,
    });
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let step = (WIDTH - 40) / i64::try_from(bars.len()).unwrap_or(1).max(1);
    let tall = |count: i64| if most == 0 { 0 } else { count * (FLOOR - 15) / most };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\"><text x=\"0\" y=\"15\">{most}</text>"
    );
    for (n, bar) in (0..).zip(bars) {
        let x = 36 + n * step;
        // What is there at all is seen.
        let good = tall(bar.good).max(i64::from(bar.good > 0) * 2);
        let bad = tall(bar.bad).max(i64::from(bar.bad > 0) * 2);
        for (class, y, height) in [("ok", FLOOR - good, good), ("bad", FLOOR - good - bad, bad)] {
            if height > 0 {
                let width = step - 4;
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
                );
            }
        }
        if n % 3 == 0 {
            let _ = write!(svg, "<text x=\"{x}\" y=\"{}\">{}</text>", HEIGHT - 6, bar.label);
        }
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"30\" y1=\"{FLOOR}\" x2=\"{WIDTH}\" y2=\"{FLOOR}\"/></svg>"
    );
    Value::from_safe_string(svg)
}
