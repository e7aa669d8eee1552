//! The figures as a picture: a bar for each server and shape, on a logarithmic axis.
//!
//! Guarantees: plain SVG without scripts, fonts or links; the same cells give the same bytes.

use super::report::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;

const BAR: f64 = 9.0;
const GAP: f64 = 10.0;
const LEFT: f64 = 150.0;
const WIDTH: f64 = 420.0;
const TOP: f64 = 70.0;
const COLUMN: f64 = LEFT + WIDTH + 90.0;
/// Colours that stay apart for most eyes; a server keeps its colour in both columns.
const COLOURS: [&str; 8] = ["#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00", "#f0e442", "#555555"];

/// What a bar shows of a cell.
type Figure = fn(&Cell) -> f64;

/// Draws requests per CPU second on the left and requests per second on the right.
pub fn svg(shapes: &[(String, Vec<Cell>)]) -> String {
    let mut picture = String::new();
    // Writing to a String does not fail.
    let _ = draw(shapes, &mut picture);
    picture
}

fn draw(shapes: &[(String, Vec<Cell>)], out: &mut String) -> std::fmt::Result {
    let mut colours: BTreeMap<&str, &str> = BTreeMap::new();
    let mut names: Vec<&str> = Vec::new();
    for cell in shapes.iter().flat_map(|(_, cells)| cells) {
        if !names.contains(&cell.server.as_str()) {
            colours.insert(&cell.server, COLOURS[names.len() % COLOURS.len()]);
            names.push(&cell.server);
        }
    }
    let rows: usize = shapes.iter().map(|(_, cells)| cells.len()).sum();
    let height = TOP + rows as f64 * BAR + shapes.len() as f64 * GAP + 30.0;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"10\">",
        2.0 * COLUMN
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>")?;
    for (index, name) in names.iter().enumerate() {
        let x = 20.0 + 130.0 * index as f64;
        writeln!(out, "<rect x=\"{x:.0}\" y=\"12\" width=\"10\" height=\"10\" fill=\"{}\"/>", colours[name])?;
        writeln!(out, "<text x=\"{:.0}\" y=\"21\">{}</text>", x + 14.0, escaped(name))?;
    }
    let columns: [(&str, Figure); 2] = [
        ("requests per CPU second of the server (logarithmic)", |cell| cell.ops_per_cpu_s),
        ("requests per second (logarithmic)", |cell| cell.ops_per_s),
    ];
    for (column, (title, value)) in columns.into_iter().enumerate() {
        let left = column as f64 * COLUMN;
        let values = || shapes.iter().flat_map(|(_, cells)| cells).map(value).filter(|value| 0.0 < *value);
        let lowest = values().fold(f64::INFINITY, f64::min).log10().floor();
        let highest = values().fold(0.0, f64::max).log10().ceil().max(lowest + 1.0);
        writeln!(out, "<text x=\"{:.0}\" y=\"45\" font-size=\"12\">{title}</text>", left + LEFT)?;
        if !lowest.is_finite() || !highest.is_finite() {
            continue;
        }
        let x_of = |value: f64| left + LEFT + WIDTH * (value.log10() - lowest) / (highest - lowest);
        for decade in lowest as i32..=highest as i32 {
            let x = x_of(10f64.powi(decade));
            writeln!(
                out,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\" stroke=\"#dddddd\"/>",
                TOP - 5.0,
                height - 20.0
            )?;
            writeln!(out, "<text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">1e{decade}</text>", TOP - 8.0)?;
        }
        let mut y = TOP;
        for (shape, cells) in shapes {
            let middle = y + cells.len() as f64 * BAR / 2.0 + 3.0;
            let x = left + LEFT - 6.0;
            writeln!(out, "<text x=\"{x:.0}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>", escaped(shape))?;
            for cell in cells {
                let figure = value(cell);
                if 0.0 < figure {
                    let width = (x_of(figure) - left - LEFT).max(1.0);
                    writeln!(
                        out,
                        "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
                        left + LEFT,
                        BAR - 1.0,
                        colours[cell.server.as_str()]
                    )?;
                    writeln!(
                        out,
                        "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"8\">{figure:.0}</text>",
                        left + LEFT + width + 3.0,
                        y + BAR - 2.0
                    )?;
                }
                y += BAR;
            }
            y += GAP;
        }
    }
    writeln!(out, "</svg>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report;

    #[test]
    fn every_figure_has_a_bar_and_longer_means_more() {
        let cells = report::cells(&report::tests::canned());
        let picture = svg(&cells);
        let bars: Vec<&str> = picture.lines().filter(|line| line.contains("height=\"8.0\"")).collect();
        // Two shapes, three servers, two columns.
        assert_eq!(bars.len(), 12);
        let width = |bar: &str| {
            let (_, rest) = bar.split_once(" width=\"").expect("a width");
            rest.split_once('"').expect("its end").0.parse::<f64>().expect("a number")
        };
        // Java, ours, the floor.
        assert!(width(bars[0]) < width(bars[1]) && width(bars[1]) < width(bars[2]), "{bars:?}");
        assert_eq!(picture.matches('<').count(), picture.matches('>').count());
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(!svg(&[]).contains("NaN"));
        let mut kept = report::tests::canned();
        for run in &mut kept.runs {
            run.error = Some("gone".to_owned());
        }
        let picture = svg(&report::cells(&kept));
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
