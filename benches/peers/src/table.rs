//! The results as Markdown.

use std::fmt::Write;
use std::path::Path;

use crate::measure::{IDLE, Measure, Outcome};
use crate::peers::{Kind, Peer};
use crate::processes::Placement;

/// What was measured of one peer.
pub(crate) struct Row {
    pub(crate) peer: &'static Peer,
    version: String,
    /// Of each measure, in the order of `Measure::ALL`, the figures of each round.
    rounds: [Vec<Vec<f64>>; Measure::ALL.len()],
}

impl Row {
    pub(crate) fn new(peer: &'static Peer, version: String) -> Row {
        Row { peer, version, rounds: Default::default() }
    }

    pub(crate) fn add(&mut self, measure: Measure, figures: Vec<f64>) {
        self.rounds[measure as usize].push(figures);
    }

    /// The median of all rounds: of the only figure, or p50.
    pub(crate) fn median(&self, measure: Measure) -> Option<f64> {
        self.median_of(measure, 0)
    }

    fn median_of(&self, measure: Measure, figure: usize) -> Option<f64> {
        middle(self.rounds[measure as usize].iter().filter_map(|round| round.get(figure).copied()).collect())
    }

    /// By how much rounds differ, as a share of their median.
    fn spread(&self, measure: Measure) -> Option<f64> {
        let firsts = || self.rounds[measure as usize].iter().filter_map(|round| round.first().copied());
        let (least, most) = (firsts().reduce(f64::min)?, firsts().reduce(f64::max)?);
        (firsts().count() > 1).then_some((most - least) / self.median(measure)?)
    }

    pub(crate) fn title(&self) -> String {
        if self.version.is_empty() {
            self.peer.title.to_owned()
        } else {
            format!("{} ({})", self.peer.title, self.version)
        }
    }
}

pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// Who did not take part, and why.
    absent: Vec<String>,
    placement: Placement,
}

impl Table {
    pub(crate) fn new(rows: Vec<Row>, absent: Vec<String>, placement: Placement) -> Table {
        Table { rows, absent, placement }
    }

    /// What C reaches in this: the better suited of its two.
    fn floor(&self, measure: Measure) -> Option<f64> {
        let name = match measure {
            Measure::Sequential | Measure::Large => "c-blocking",
            Measure::Window | Measure::Crowd | Measure::Idle => "c-batch",
        };
        self.rows.iter().find(|row| row.peer.name == name)?.median(measure)
    }

    /// A median, as a multiple of what C reaches.
    fn ratio(&self, row: &Row, measure: Measure) -> Option<f64> {
        Some(row.median(measure)? / self.floor(measure)?)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.circumstances());
        text += "| | one after the other, p50 µs | p99 | × C | window of 64, requests/s | × C | 64 connections, requests/s \
                 | × C | 1 MiB echo, MB/s | × C | idle, KiB a connection |\n";
        text += &format!("|---|{}\n", "--:|".repeat(10));
        for row in &self.rows {
            let title =
                if row.peer.kind == Kind::Sidewire { format!("**{}**", row.title()) } else { row.title() };
            let p99 = row.median_of(Measure::Sequential, 1);
            let mut line = format!("| {title} | {}", cell(row.median(Measure::Sequential), micros));
            for cell in [
                cell(p99, micros),
                cell(self.ratio(row, Measure::Sequential), ratio),
                cell(row.median(Measure::Window), rate),
                cell(self.ratio(row, Measure::Window), ratio),
                cell(row.median(Measure::Crowd), rate),
                cell(self.ratio(row, Measure::Crowd), ratio),
                cell(row.median(Measure::Large), rate),
                cell(self.ratio(row, Measure::Large), ratio),
                cell(row.median(Measure::Idle), kibibytes),
            ] {
                let _ = write!(line, " | {cell}"); // into a string
            }
            text += &line;
            text += " |\n";
        }
        for absent in &self.absent {
            let _ = write!(text, "\nNot measured: {absent}.\n");
        }
        text
    }

    /// Where and when this was.
    fn circumstances(&self) -> String {
        let of = |file| std::fs::read_to_string(file).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let (kernel, cpus) = (of("/proc/sys/kernel/osrelease"), of("/proc/cpuinfo"));
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let date = std::process::Command::new("date").args(["-u", "+%F"]).output();
        let date =
            date.map(|date| String::from_utf8_lossy(&date.stdout).trim().to_owned()).unwrap_or_default();
        let placement = match self.placement {
            Placement::OneCore => "client and server on one processor",
            Placement::Free => "client and server wherever the system put them",
        };
        let rounds = self.rows.iter().map(|row| row.rounds[0].len()).max().unwrap_or_default();
        let rounds = if rounds == 1 { "one round".to_owned() } else { format!("medians of {rounds} rounds") };
        let mut text = format!(
            "{date}, Linux {}, {} ({cores} processors); {placement}; 64 B of payload, {rounds}; idle of \
             {IDLE} connections.",
            kernel.trim(),
            model.trim_start_matches([' ', '\t', ':']),
        );
        let mut spreads: Vec<f64> = self
            .rows
            .iter()
            .flat_map(|row| Measure::ALL.map(|measure| row.spread(measure)))
            .flatten()
            .collect();
        spreads.sort_by(f64::total_cmp);
        if let (Some(half), Some(most)) =
            (spreads.get(spreads.len() / 2), spreads.get(spreads.len() * 9 / 10))
        {
            let _ = write!(
                text,
                " Between the lowest and the highest round of a figure are {:.0} % or less in half of them, {:.0} % or \
                 less in nine of ten.",
                half * 100.0,
                most * 100.0
            );
        }
        text
    }
}

/// Writes the table between the two lines that mark it in this file, or makes the file.
pub(crate) fn replace(file: &Path, table: &str) -> Outcome<()> {
    const BEGIN: &str = "<!-- measured -->\n";
    const END: &str = "<!-- end of measured -->\n";
    let old = std::fs::read_to_string(file).unwrap_or_else(|_| format!("{BEGIN}{END}"));
    let (before, rest) = old.split_once(BEGIN).ok_or("no line that marks the table")?;
    let (_, after) = rest.split_once(END).ok_or("no line that ends the table")?;
    Ok(std::fs::write(file, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?)
}

fn middle(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}

fn cell(figure: Option<f64>, form: fn(f64) -> String) -> String {
    figure.map_or_else(|| "–".to_owned(), form)
}

pub(crate) fn micros(figure: f64) -> String {
    if figure < 10.0 { format!("{figure:.2}") } else { format!("{figure:.1}") }
}

/// Three digits of it.
pub(crate) fn rate(figure: f64) -> String {
    match figure {
        1e7.. => format!("{:.1}M", figure / 1e6),
        1e6.. => format!("{:.2}M", figure / 1e6),
        1e4.. => format!("{:.0}k", figure / 1e3),
        _ => format!("{figure:.0}"),
    }
}

fn ratio(figure: f64) -> String {
    match figure {
        10.0.. => format!("{figure:.0}"),
        1.0.. => format!("{figure:.2}"),
        0.02.. => format!("{figure:.2}").trim_start_matches('0').to_owned(),
        _ => format!("{figure:.3}").trim_start_matches('0').to_owned(),
    }
}

fn kibibytes(figure: f64) -> String {
    if figure < 0.005 { "0".to_owned() } else { ratio(figure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_at_most() {
        assert_eq!(
            [12_700_000.0, 1_230_000.0, 275_400.0, 4_970.0].map(rate),
            ["12.7M", "1.23M", "275k", "4970"]
        );
        assert_eq!([3.118, 16.24].map(micros), ["3.12", "16.2"]);
        assert_eq!([1.0, 0.974, 0.0041, 53.2].map(ratio), ["1.00", ".97", ".004", "53"]);
    }

    #[test]
    fn the_middle_of_nothing_is_nothing() {
        assert_eq!(middle(vec![]), None);
        assert_eq!(middle(vec![3.0, 1.0, 2.0]), Some(2.0));
    }
}
