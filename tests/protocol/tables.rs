//! The document's tables are the code's.

use std::collections::{BTreeMap, BTreeSet};

use sidewire::{Limits, ResultCode};

use crate::DOCUMENT;

/// The rows of the table whose header begins with these cells, without the markup of code.
pub(crate) fn table(header: &[&str]) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
        inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    let mut lines =
        DOCUMENT.lines().skip_while(|line| !line.starts_with('|') || !cells(line).starts_with_strs(header));
    assert!(lines.next().is_some(), "there is no table with the header {header:?}");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

trait StartsWithStrs {
    fn starts_with_strs(&self, other: &[&str]) -> bool;
}

impl StartsWithStrs for Vec<String> {
    fn starts_with_strs(&self, other: &[&str]) -> bool {
        self.len() >= other.len() && self.iter().zip(other).all(|(mine, other)| mine == other)
    }
}

#[test]
fn the_table_of_result_codes_is_the_code_s() {
    let mut listed = BTreeSet::new();
    for row in table(&["code", "name"]) {
        let code: i32 = row[0].parse().expect("a code");
        assert_eq!(ResultCode::new(code).to_string(), format!("{} ({code})", row[1]));
        assert!(listed.insert(code), "{code} stands there once");
    }
    let named = (-999..=0).filter(|&code| !ResultCode::new(code).to_string().starts_with("reserved"));
    assert_eq!(listed, named.collect());
    let constants = [
        (ResultCode::OK, 0),
        (ResultCode::UNKNOWN_TYPE, -1),
        (ResultCode::NO_HANDLER, -2),
        (ResultCode::TOO_LARGE, -3),
        (ResultCode::MALFORMED, -4),
        (ResultCode::NOT_PERMITTED, -5),
        (ResultCode::BUSY, -6),
        (ResultCode::TIMED_OUT, -7),
        (ResultCode::CANCELLED, -8),
        (ResultCode::SHUTTING_DOWN, -9),
        (ResultCode::HANDLER_FAILED, -10),
        (ResultCode::NO_COMMON_VERSION, -11),
        (ResultCode::FEATURE_MISSING, -12),
    ];
    assert_eq!(constants.len(), listed.len());
    assert!(constants.iter().all(|(constant, code)| constant.code() == *code));
}

/// Wherever the document says `name (-N)`, name and number belong together.
#[test]
fn codes_go_by_their_names_everywhere() {
    let mut count = 0;
    for (at, _) in DOCUMENT.match_indices("(-") {
        let number = DOCUMENT[at + 1..].split(')').next().unwrap_or_default();
        let Ok(code) = number.parse::<i32>() else { continue };
        let full = ResultCode::new(code).to_string();
        let name = full.split(" (").next().unwrap_or_default();
        let before = &DOCUMENT[..at];
        let line = before.lines().count();
        assert!(before.trim_end().to_lowercase().ends_with(name), "line {line}: ({code}) is '{name}'");
        count += 1;
    }
    assert!(count > 30, "only {count} were found");
}

#[test]
fn the_table_of_limits_is_the_code_s() {
    // Limits are not exhaustive for others: their Debug form names all fields, of one in the other.
    let mut fields = format!("{:?}", Limits::default());
    for around in ["listener: ListenerLimits { ", "connection: ConnectionLimits { ", "Limits { ", " }"] {
        assert!(fields.contains(around), "{fields}");
        fields = fields.replace(around, "");
    }
    let fields: Vec<_> = fields.split(", ").filter_map(|field| field.split_once(": ")).collect();
    let written = table(&["limit", "default"]);
    let plain = |value: &str| value.trim_end_matches(" bytes").replace([',', ' '], "").to_lowercase();
    let written: BTreeMap<_, _> = written.iter().map(|row| (row[0].clone(), plain(&row[1]))).collect();
    let coded: BTreeMap<_, _> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), plain(value))).collect();
    assert_eq!(written, coded);
}
