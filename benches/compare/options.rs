//! What is to be measured, and how often.

use crate::own::Result;
use crate::rows;

const HELP: &str = "\
cargo bench --features cli --bench compare -- [OPTION...]

Compares Sidewire with a server and a client in plain C that do nothing but move the bytes. Both sides are processes of
their own. Rounds are interleaved, C and Sidewire in turn; a figure is the median of all rounds, in brackets the least
and the most. Only ratios of one run mean something: other work on the machine spoils all figures, and less
so those of one processor.

--row NAME            only rows whose name begins so; several may be given
--placement same|free both sides on one processor (the repeatable one), or wherever the system puts them [both]
--rounds N            [7]
--quick               3 rounds of a fifth of the requests: a look, not a proof
--markdown            print tables for a document

Rows:
";

pub(crate) struct Options {
    pub(crate) rows: Vec<String>,
    pub(crate) placements: Vec<Placement>,
    pub(crate) rounds: usize,
    pub(crate) is_quick: bool,
    pub(crate) is_markdown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Same,
    Free,
}

/// `None`: nothing is to be measured.
pub(crate) fn read(arguments: &[String]) -> Result<Option<Options>> {
    let mut options = Options {
        rows: Vec::new(),
        placements: vec![Placement::Same, Placement::Free],
        rounds: 7,
        is_quick: false,
        is_markdown: false,
    };
    let mut is_bench = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--bench" => is_bench = true,
            "--row" => options.rows.push(value()?.clone()),
            "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
            "--quick" => (options.is_quick, options.rounds) = (true, 3),
            "--markdown" => options.is_markdown = true,
            "--placement" => {
                options.placements = match value()?.as_str() {
                    "same" => vec![Placement::Same],
                    "free" => vec![Placement::Free],
                    other => return Err(format!("a placement is same or free, not {other}").into()),
                }
            }
            "-h" | "--help" => return help(),
            other => return Err(format!("{other}? See --help").into()),
        }
    }
    if !is_bench {
        println!("run me with cargo bench");
        return Ok(None);
    }
    Ok(Some(options))
}

fn help() -> Result<Option<Options>> {
    print!("{HELP}");
    for row in rows::all() {
        println!("{:<22}{}", row.name, row.what);
    }
    Ok(None)
}
