//! The results as a picture: four panels of bars, the best on top.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measure::{Measure, Outcome};
use crate::peers::Kind;
use crate::table::{Table, micros, rate};

/// Of one panel, in pixels.
const WIDTH: i32 = 560;
const BAR: i32 = 17;
const HEADING: i32 = 44;
const LABELS: i32 = 215;
/// At the bottom: what the colors say.
const LEGEND: i32 = 40;
/// Room for the number behind a bar.
const NUMBER: i32 = 62;

struct Panel {
    measure: Measure,
    heading: &'static str,
    form: fn(f64) -> String,
    better: Better,
}

#[derive(Clone, Copy)]
enum Better {
    Low,
    High,
    /// And they are so far apart that each tenth of a bar is as many times more.
    HighByFactors,
}

const PANELS: [Panel; 4] = [
    Panel {
        measure: Measure::Sequential,
        heading: "One request after the other: median in µs, less is better",
        form: micros,
        better: Better::Low,
    },
    Panel {
        measure: Measure::Window,
        heading: "64 requests under way on one connection: requests/s, logarithmic",
        form: rate,
        better: Better::HighByFactors,
    },
    Panel {
        measure: Measure::Crowd,
        heading: "64 connections, one request each: requests/s",
        form: rate,
        better: Better::High,
    },
    Panel { measure: Measure::Large, heading: "Echo of 1 MiB: MB/s", form: rate, better: Better::High },
];

pub(crate) fn draw(table: &Table, file: &Path) -> Outcome<()> {
    let height = HEADING + BAR * table.rows.len() as i32;
    let size = (2 * WIDTH as u32, (2 * height + LEGEND) as u32);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (number, panel) in PANELS.iter().enumerate() {
            let at = (number as i32 % 2 * WIDTH, number as i32 / 2 * height);
            panel.draw(table, &root, at)?;
        }
        legend(&root, 2 * height + LEGEND / 2)?;
        root.present()?;
    }
    Ok(std::fs::write(file, text)?)
}

type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn legend(root: &Root<'_>, middle: i32) -> Outcome<()> {
    let entries = [
        (Kind::Floor, "plain C"),
        (Kind::Sidewire, "Sidewire"),
        (Kind::Bytes, "moves bytes, dispatches nothing"),
        (Kind::Requests, "answers requests"),
    ];
    for (number, (kind, text)) in entries.into_iter().enumerate() {
        let left = 215 + 230 * number as i32;
        let font = ("sans-serif", 12).into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Rectangle::new([(left, middle - 6), (left + 20, middle + 7)], color(kind).filled()))?;
        root.draw(&Text::new(text, (left + 27, middle), font))?;
    }
    Ok(())
}

impl Panel {
    fn draw(&self, table: &Table, root: &Root<'_>, at: (i32, i32)) -> Outcome<()> {
        let mut bars: Vec<(String, Kind, f64)> = Vec::new();
        for row in &table.rows {
            if let Some(figure) = row.median(self.measure) {
                bars.push((row.peer.title.to_owned(), row.peer.kind, figure));
            }
        }
        bars.sort_by(|(_, _, one), (_, _, other)| match self.better {
            Better::Low => one.total_cmp(other),
            Better::High | Better::HighByFactors => other.total_cmp(one),
        });
        let most = bars.iter().map(|(_, _, figure)| *figure).fold(0.0, f64::max);
        let font = ("sans-serif", 12).into_font();
        let heading = ("sans-serif", 13).into_font().style(FontStyle::Bold);
        root.draw(&Text::new(self.heading, (at.0 + 12, at.1 + 20), heading))?;
        for (number, (title, kind, figure)) in bars.iter().enumerate() {
            let (left, top) = (at.0 + LABELS, at.1 + HEADING + BAR * number as i32);
            let right = left + (self.share(*figure, most) * f64::from(WIDTH - LABELS - NUMBER)) as i32;
            let middle = top + BAR / 2 - 1;
            let before = font.clone().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
            let behind = font.clone().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(title.clone(), (left - 6, middle), before))?;
            root.draw(&Rectangle::new(
                [(left, top), (right.max(left + 1), top + BAR - 4)],
                color(*kind).filled(),
            ))?;
            root.draw(&Text::new((self.form)(*figure), (right + 5, middle), behind))?;
        }
        Ok(())
    }

    /// Of the longest bar.
    fn share(&self, figure: f64, most: f64) -> f64 {
        /// Where logarithmic bars begin.
        const LEAST: f64 = 1e3;
        match self.better {
            Better::Low | Better::High => figure / most,
            Better::HighByFactors => (figure / LEAST).ln().max(0.0) / (most / LEAST).ln(),
        }
    }
}

fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Floor => RGBColor(120, 120, 120),
        Kind::Sidewire => RGBColor(200, 80, 30),
        Kind::Bytes => RGBColor(170, 190, 210),
        Kind::Requests => RGBColor(70, 120, 170),
    }
}
