//! Rounds, medians, and how they are printed.

use std::io::Write;

use crate::options::{Options, Placement};
use crate::own::Result;
use crate::rows::{self, Figure, Row};
use crate::sides::{Floor, Run, Served};

/// Median, least and most.
#[derive(Clone, Copy)]
struct Summary {
    median: f64,
    least: f64,
    most: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let floor = Floor::build()?;
    let rows: Vec<Row> = rows::all()
        .into_iter()
        .filter(|row| options.rows.is_empty() || options.rows.iter().any(|name| row.name.starts_with(name)))
        .collect();
    if rows.is_empty() {
        return Err("there is no such row; --help has them".into());
    }
    let mut serial = 0;
    for placement in &options.placements {
        head(options, *placement);
        for row in &rows {
            // Memory and what is a difference of CPU time alone don't hang on the placement.
            if *placement == Placement::Free && row.name == "idle" && options.placements.len() > 1 {
                continue;
            }
            // Who looks keeps the other from answering where there is one processor for both.
            if *placement == Placement::Same && row.name.starts_with("spinning") {
                continue;
            }
            measure(options, &floor, row, *placement, &mut serial)?;
        }
    }
    Ok(())
}

fn head(options: &Options, placement: Placement) {
    let title = match placement {
        Placement::Same => "both sides on one processor",
        Placement::Free => "both sides wherever the system puts them",
    };
    if options.is_markdown {
        println!(
            "\n### {title}\n\n| row | what | unit | C | Sidewire | ratio | goal |\n|---|---|---|---|---|---|---|"
        );
    } else {
        println!("\n{title}, {} rounds: median (least to most)", options.rounds);
        println!("{:<20} {:<17} {:>28} {:>28} {:>7}  goal", "", "", "C", "Sidewire", "ratio");
    }
}

fn measure(
    options: &Options,
    floor: &Floor,
    row: &Row,
    placement: Placement,
    serial: &mut usize,
) -> Result<()> {
    let sides = [&row.floor, &row.ours];
    // Memory that was used once stays: each round of that gets a server of its own.
    let is_fresh = row.name == "idle";
    let mut start = |run: &Run| {
        *serial += 1;
        Served::start(floor, run, placement, *serial)
    };
    let mut servers = [start(sides[0])?, start(sides[1])?];
    let mut told = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        for side in 0..2 {
            if is_fresh && round > 0 {
                servers[side] = start(sides[side])?;
            }
            let fewer = if options.is_quick { 5 } else { 1 };
            told[side].push(servers[side].measure(floor, sides[side], placement, fewer)?);
        }
    }
    for figure in &row.figures {
        let [floor, ours] = &told;
        let values = |told: &[serde_json::Value]| {
            summary(told.iter().filter_map(|value| value.get(figure.key)?.as_f64()).collect())
        };
        if let (Some(floor), Some(ours)) = (values(floor), values(ours)) {
            print(options, row, figure, floor, ours);
        }
    }
    std::io::stdout().flush()?;
    Ok(())
}

fn summary(mut values: Vec<f64>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    Some(Summary { median: *values.get(values.len() / 2)?, least: *values.first()?, most: *values.last()? })
}

fn print(options: &Options, row: &Row, figure: &Figure, floor: Summary, ours: Summary) {
    let ratio = match floor.median > 0.0 {
        true => format!("{:.2}", ours.median / floor.median),
        false => "-".into(),
    };
    let (name, what, unit, goal) = (&row.name, &row.what, figure.unit, figure.goal);
    let (floor, ours) = (words(floor), words(ours));
    if options.is_markdown {
        println!("| {name} | {what} | {unit} | {floor} | {ours} | {ratio} | {goal} |");
    } else {
        println!("{name:<20} {unit:<17} {floor:>28} {ours:>28} {ratio:>7}  {goal}");
    }
}

fn words(summary: Summary) -> String {
    let [median, least, most] = [summary.median, summary.least, summary.most].map(number);
    format!("{median} ({least} to {most})")
}

/// Three digits that count, or all that stand before the point.
fn number(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
